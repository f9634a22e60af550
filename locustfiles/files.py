"""Writers of small files: write, sync, read back, compare, delete, in real threads."""

from locust import between

from asyncload_lib import FileUser


class File(FileUser):
    wait_time = between(0.2, 0.6)
