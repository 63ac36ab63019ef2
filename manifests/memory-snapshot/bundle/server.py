from usrland.launch import launch

launch("memory_snapshot.server:service")
