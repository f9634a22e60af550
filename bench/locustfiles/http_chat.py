"""The same POST again and again, by Locust's HttpUser."""

from locust import HttpUser, constant, task


class Chat(HttpUser):
    wait_time = constant(0)

    @task
    def ask(self) -> None:
        self.client.post("/chat", json={"message": "hello, how is it going"}, name="/chat/0")
