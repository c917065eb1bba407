"""The processes of jobs: started, watched, ended with all that they started."""
