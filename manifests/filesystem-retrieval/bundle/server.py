from usrland.launch import launch

launch("filesystem_retrieval.server:service")
