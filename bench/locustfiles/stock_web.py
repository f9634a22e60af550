"""The smallest stock locustfile, to compare the start of the `locust` command with."""

from locust import HttpUser, task


class Chat(HttpUser):
    host = "http://127.0.0.1:9"

    @task
    def ask(self) -> None:
        self.client.post("/chat", json={"message": "hello"})
