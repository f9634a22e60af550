"""People in a chat: most wait for whole answers, some read them as they are written.

locust -f locustfiles/chat.py            web UI on http://127.0.0.1:8089
"""

from asyncload_lib import ChatStreamUser, ChatUser


class Chat(ChatUser):
    weight = 4


class ChatStream(ChatStreamUser):
    weight = 1
