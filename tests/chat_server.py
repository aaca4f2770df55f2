"""A small server of chat completions, and a proxy before it that breaks requests: each a process of its own.

python chat_server.py serve [DELAY_S]      prints its port
python chat_server.py break PORT           prints its port; /FAULT/v1 breaks the first request of each body,
                                           /always-FAULT/v1 every one, /v1 none
GET /log of the server: the last message of each request, all images, the key; most requests at a time.
"""

import hashlib
import json
import re
import socket
import struct
import sys
import threading
import time
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "demo/qwen2.5-vl-demo"
LOG = {"texts": [], "images": [], "keys": [], "bodies": [], "most": 0}
LOCK = threading.Lock()
now, seen = 0, Counter()


def said(text):
    """What the model answers: chains where they are asked for, else an empty answer."""
    if "Reasoning:\n" in text:  # the rewrite of a template
        template = text.split("Reasoning:\n")[1].split("\nYour last answer")[0]
        is_bad = "bad once" in text and "rejected" not in text
        return (
            template.replace("[[box 1]]", "[1, 2, 3, 4]") if is_bad else f"<think>Hm.</think>So: {template}"
        )
    if "\nResult:\n" in text:
        lines = text.split("\nResult:\n")[1].split("\n")
        gold = [re.fullmatch(r'(".+"(?: \(mention \d+\))?): (.*)', line) for line in lines]
        return " ".join(map(sentence, filter(None, gold))) or "Nothing is named, and none is shown."
    return "<answer>[]</answer>"


def sentence(match):
    kind, _, where = match[2].partition(", ")
    slot = re.match(r"\[\[box \d+\]\]", where)
    shown = f"and is seen at {slot[0]}" if slot else "and the image does not show it"
    return f"Look: {match[1]} is {kind} {shown}."


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        pass

    def answer(self, status, value, **headers):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": len(data), **headers}.items():
            self.send_header(name.replace("_", "-"), str(text))
        self.end_headers()
        self.wfile.write(data)

    def body(self):
        return self.rfile.read(int(self.headers["Content-Length"]))


class Model(Handler):
    delay = 0.0

    def do_GET(self):
        with LOCK:
            self.answer(200, LOG)

    def do_POST(self):
        global now
        with LOCK:
            now += 1
            LOG["most"] = max(LOG["most"], now)
        data = self.body()
        time.sleep(self.delay)
        body = json.loads(data)
        content = body["messages"][-1]["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        with LOCK:
            now -= 1
            LOG["texts"].append(text)
            every = [p for m in body["messages"] if isinstance(m["content"], list) for p in m["content"]]
            LOG["images"].append([p["image_url"]["url"] for p in every if p["type"] == "image_url"])
            LOG["keys"].append(self.headers.get("Authorization"))
            LOG["bodies"].append({key: body[key] for key in body if key != "messages"})
        message = {"role": "assistant", "content": said(text)}
        if "think apart" in text:
            message |= {"reasoning_content": "Well."}
        if "in parts" in text:
            message["content"] = [{"type": "text", "text": message["content"]}]
        choice = {"message": message, "finish_reason": "length" if "too long" in text else "stop"}
        if "refuse me" in text:
            return self.answer(400, {"error": {"message": f"no: {self.headers.get('Authorization')}"}})
        usage = {"prompt_tokens": len(text), "completion_tokens": 7}
        return self.answer(200, {"model": body["model"], "choices": [choice], "usage": usage})


class Proxy(Handler):
    port = 0

    def do_POST(self):
        data = self.body()
        fault, _, path = self.path.lstrip("/").partition("/v1")
        key = (fault, hashlib.sha256(data).digest())
        with LOCK:
            seen[key] += 1
            is_first = seen[key] == 1
        if fault and (is_first or fault.startswith("always-")):
            return getattr(self, f"fault_{fault.removeprefix('always-')}")()
        to = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1{path}", data)
        return self.answer(200, urllib.request.urlopen(to).read())

    def fault_429(self):
        self.answer(429, {"error": {"message": "too many"}}, Retry_After="0.2")

    def fault_500(self):
        self.answer(500, b"<html>oops</html>")

    def fault_401(self):
        self.answer(401, {"error": {"message": f"Incorrect key: {self.headers.get('Authorization')}"}})

    def fault_404(self):
        self.answer(404, {"error": {"message": "The model does not exist"}})

    def fault_cut(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def fault_half(self):
        self.answer(200, b'{"model": "demo", "choices": [{"mess')

    def fault_short(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"model"')
        self.close_connection = True

    def fault_other(self):
        self.answer(200, {"choices": "none", "model": 7})

    def fault_wrong(self):
        choice = {"message": {"content": "hello"}, "finish_reason": "stop"}
        self.answer(200, {"model": "gpt-2", "choices": [choice]})

    def fault_slow(self):
        time.sleep(6)
        self.close_connection = True

    def fault_drip(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(30):
            self.wfile.write(b" ")
            time.sleep(0.2)
        self.close_connection = True


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


if __name__ == "__main__":
    kind = Model if sys.argv[1] == "serve" else Proxy
    if kind is Proxy:
        Proxy.port = int(sys.argv[2])
    elif len(sys.argv) > 2:
        Model.delay = float(sys.argv[2])
    server = Server(("127.0.0.1", 0), kind)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
