from usrland.launch import launch

launch("enterprise_connectors.server:service")
