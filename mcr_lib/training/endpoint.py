"""Answers of a served model, images included: any server that speaks OpenAI's chat completions.

    chat + pictures ─► kept already? ─► wait for a turn ─► ask, again after a random wait ─► keep ─► Answer

An answer is appended to a file as soon as it comes, under a checksum of model, prompt, images and sampling:
the same command goes on after a kill, and asks again only what was in flight. The server's key is read from
the environment and stands in no file and no sentence. The client is httpx2, which also comes with
transformers and on which OpenAI's own is built; that one would repeat requests by a second rule of its own.
"""

import base64
import io
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Lock
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from mcr_lib.boxes import Size
from mcr_lib.data.files import sealed, unsealed, writing
from mcr_lib.data.images import open_image
from mcr_lib.errors import UserError
from mcr_lib.prompts import Message
from mcr_lib.training.cards import checksum

KEY = "OPENAI_API_KEY"  # the variable of the environment that holds the server's key, if it wants one
MAX_PAUSE_S, MAX_BYTES = 600.0, 2**24  # between requests, if a server asks for it; of an answer
BACKOFF_S = 1.0  # longest wait before a second try; doubled for each further one
_GOES_ON = "answers so far are kept, and the same command goes on"
_checksum = lru_cache(maxsize=None)(lambda path: checksum(Path(path)))
Picture = tuple[str, Size]  # a file, and the (width, height) in which it is sent: one that the model keeps
Tried = tuple["Answer | None", str, float | None]  # or what is wrong; seconds to wait, `None` = for ever


@dataclass(frozen=True)
class Answer:
    """What a model said."""

    text: str | None  # after reasoning in tags, if there is some; `None` = no answer came
    is_cut: bool = False  # it reached the most tokens
    tokens: Sequence[int] = (0, 0)  # of input, of output, as the server counts; 0 = not told
    problem: str = ""  # why none came


@dataclass
class Endpoint:
    """A served model and its kept answers; opened by `with`, then asked from any thread."""

    url: str  # up to the folder of `chat/completions`, most often .../v1
    model: str
    kept: Path  # the file of answers, made where it is missing
    sampling: Mapping[str, Any] = field(default_factory=dict)  # further fields of a request; `None`: left out
    in_flight: int = 8  # requests at a time
    per_minute: float = 0.0  # most requests; 0 = no limit
    timeout_s: float = 300.0  # until an answer is whole
    n_tries: int = 6  # per request
    price: Sequence[float] = (0.0, 0.0)  # of a million tokens of input, of output, in any currency

    def __post_init__(self) -> None:
        parts, self._key = urlsplit(self.url), os.environ.get(KEY, "").strip()
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"--endpoint {self.url}: expected an address such as http://HOST:PORT/v1")
        is_plain = self._key.isascii() and self._key.isprintable()
        if parts.username or parts.password or parts.query or not is_plain:
            raise UserError(f"--endpoint: a key is read from {KEY} alone, and is plain text")
        if min(self.in_flight, self.n_tries) < 1 or not self.timeout_s > 0 or not self.per_minute >= 0:
            raise UserError("an endpoint needs --in-flight, --n-tries and --timeout-s above 0")
        self._host, self._lock, self._stopped, self._error = parts.hostname, Lock(), Event(), None
        self._next, self._n_new, self._used = 0.0, 0, {}  # start of the next request; new answers; by key
        lines = self.kept.read_bytes().split(b"\n") if self.kept.is_file() else []
        self._known = {row.pop("key"): Answer(**row) for row in filter(None, map(unsealed, lines))}

    def __enter__(self) -> "Endpoint":
        if find_spec("httpx2") is None:
            raise UserError("an endpoint needs httpx2, which is not installed; pip install httpx2 brings it")
        import httpx2

        self._failures = (httpx2.HTTPError, httpx2.StreamError)
        self._client = httpx2.Client(
            base_url=self.url.rstrip("/").removesuffix("chat/completions"),
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(self.timeout_s, connect=min(10.0, self.timeout_s)),
            limits=httpx2.Limits(max_connections=self.in_flight, max_keepalive_connections=self.in_flight),
            trust_env=self._host not in ("localhost", "127.0.0.1", "::1"),  # its proxies
        )
        with writing(self.kept):
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.kept.open("ab", buffering=0)
            self._file.write(b"\n")  # a kill may have cut the last line
        return self

    def __exit__(self, *_: Any) -> None:
        self._client.close()
        self._file.close()

    def each(
        self, work: Callable, items: Iterable[Any], progress: Callable[..., None] = lambda *_: None
    ) -> list[Any]:
        """`work` of each item in their order, `in_flight` at a time; the first error ends all."""
        with ThreadPoolExecutor(self.in_flight) as pool:
            futures = [pool.submit(work, item) for item in items]
            try:
                for n, future in enumerate(as_completed(futures), start=1):
                    future.result()
                    progress(self.model, n, len(futures), {})
            except BaseException as error:  # an interrupt, too; what is in flight is waited for, and kept
                pool.shutdown(wait=False, cancel_futures=True)
                raise self._ended(error) from None
        return [future.result() for future in futures]

    def ask(self, chat: Sequence[Message], pictures: Sequence[Picture] = ()) -> Answer:
        """The answer to a chat whose `{"type": "image"}` parts are the pictures; equal chats are asked once.

        Without text if this request fails while others are answered. `UserError`: the server is down, refuses
        the key, serves another model, or answers nonsense.
        """
        key = self._key_of(chat, pictures)
        with self._lock:
            is_first, future = key not in self._used, self._used.setdefault(key, Future())
        if is_first:
            try:
                known = self._known.get(key)
                future.set_result(known or self._asked(key, self._body(chat, map(_sent, pictures))))
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def usage(self) -> dict[str, Any]:
        """Tokens and cost of the answers of this run, also of those kept from before."""
        answers = [future.result() for future in self._used.values()]
        missing = [answer.problem for answer in answers if answer.text is None]
        facts = {"model": self.model, "answers": len(answers) - len(missing), "new": self._n_new}
        facts |= {"cut": sum(a.is_cut for a in answers), "unanswered": len(missing)}
        tokens = [sum(answer.tokens[k] for answer in answers) for k in (0, 1)]
        return facts | self._cost(*tokens) | ({"problem": missing[0]} if missing else {})

    def quote(self, requests: Iterable[tuple[Sequence[Message], Sequence[Picture]]]) -> dict[str, Any]:
        """What requests that are not kept would take at most, without a connection.

        4 characters, or 28 x 28 pixels, are taken for a token of input; `likely_cost` is that of answers as
        long as those kept, on average.
        """
        new = {key: each for each in requests if (key := self._key_of(*each)) not in self._known}
        n_chars = sum(len(json.dumps(chat)) for chat, _ in new.values())
        n_pixels = sum(width * height for _, sent in new.values() for _, (width, height) in sent)
        most = self.sampling.get("max_tokens") or self.sampling.get("max_completion_tokens") or 0
        before = [answer.tokens[1] for answer in self._known.values()]
        n_in, likely = n_chars // 4 + n_pixels // 784, sum(before) / len(before) if before else most
        facts = {"model": self.model, "requests": len(new), **self._cost(n_in, most * len(new))}
        return facts | {"likely_cost": self._cost(n_in, round(likely * len(new)))["cost"]}

    def _cost(self, n_in: int, n_out: int) -> dict[str, Any]:
        cost = (n_in * self.price[0] + n_out * self.price[1]) / 1e6
        return {"input_tokens": n_in, "output_tokens": n_out, "cost": round(cost, 6)}

    def _key_of(self, chat: Sequence[Message], pictures: Sequence[Picture]) -> str:
        images = ({"type": "image", "sum": _checksum(path), "size": size} for path, size in pictures)
        return sha256(json.dumps(self._body(chat, images), sort_keys=True).encode()).hexdigest()

    def _body(self, chat: Sequence[Message], images: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        left, messages = iter(images), []
        for message in chat:
            parts = [next(left) if part["type"] == "image" else part for part in message["content"]]
            is_text = len(parts) == 1 and parts[0]["type"] == "text"  # as every server takes it
            messages.append({"role": message["role"], "content": parts[0]["text"] if is_text else parts})
        given = {name: value for name, value in self.sampling.items() if value is not None}
        return {"model": self.model, "messages": messages, **given}

    def _asked(self, key: str, body: Mapping[str, Any]) -> Answer:
        n_before, gap_s = self._n_new, 60 / self.per_minute if self.per_minute else 0
        for k in range(self.n_tries):
            self._sleep(random.uniform(0, min(60, BACKOFF_S * 2 ** (k - 1))) if k else 0)
            with self._lock:
                start = max(time.monotonic(), self._next)
                self._next = start + gap_s
            self._sleep(start - time.monotonic())
            answer, problem, pause_s = self._try(body)
            with self._lock:
                if answer is not None:
                    with writing(self.kept):
                        self._file.write(sealed({"key": key, **asdict(answer)}))
                    self._n_new += 1
                    return answer
                if pause_s is None:
                    break
                self._next = max(self._next, time.monotonic() + min(pause_s, MAX_PAUSE_S))  # for all
        # where others are answered, it is the fault of this request
        if self._n_new > n_before or (pause_s is None and self._known):
            return Answer(None, problem=problem)
        raise self._ended(UserError(f"{self._host} gave no answer in {k + 1} tries: {problem}; {_GOES_ON}"))

    def _try(self, body: Mapping[str, Any]) -> Tried:
        ends, data = time.monotonic() + self.timeout_s, bytearray()
        try:
            with self._client.stream("POST", "chat/completions", json=body) as response:
                for part in response.iter_bytes():
                    data += part
                    if time.monotonic() > ends or len(data) > MAX_BYTES:
                        return None, f"an answer that does not end in {self.timeout_s:g} s", 0
        except self._failures as error:
            return None, f"{self._shown(str(error).encode()) or type(error).__name__}", 0
        status, pause = response.status_code, response.headers.get("retry-after", "")
        if status == 200:
            return self._read(data)
        problem = f"status {status}, {self._shown(data)}"
        if status in (408, 409, 425, 429) or status >= 500:
            return None, problem, float(pause) if re.fullmatch(r"\d{1,9}(\.\d+)?", pause) else 0
        if status in (400, 413, 422):
            return None, problem, None
        remedy = f"look at --endpoint, which ends in /v1 most often, and at --model {self.model}"
        if status in (401, 403):
            remedy = f"{KEY} holds a key that it does not take" if self._key else f"set {KEY} to its key"
        raise self._ended(UserError(f"{self._host} refuses ({problem}); {remedy}; {_GOES_ON}"))

    def _read(self, data: bytes) -> Tried:
        try:
            value = json.loads(data)
            choice, used, served = value["choices"][0], value.get("usage") or {}, value.get("model")
            message, is_cut = choice["message"], choice.get("finish_reason") == "length"
            text = message.get("content") or ""
            text = text if isinstance(text, str) else "".join(part.get("text", "") for part in text)
            apart = message.get("reasoning_content") or message.get("reasoning")
            text = f"<think>{apart}</think>\n{text}" if apart and "<think>" not in text else text
            counts = [used.get(name) for name in ("prompt_tokens", "completion_tokens")]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            return None, f"no chat completion, but {self._shown(data) or 'nothing'}", 0
        if isinstance(served, str) and served and not is_same_model(self.model, served):
            problem = f"{self._host} answers as {self._shown(served.encode())}, not as {self.model}"
            raise self._ended(UserError(f"{problem}; name by --model what it serves; {_GOES_ON}"))
        return Answer(text, is_cut, [n if type(n) is int else 0 for n in counts]), "", 0

    def _shown(self, data: bytes) -> str:
        """A server's words in a line, without the key."""
        line = " ".join(bytes(data[:4000]).decode(errors="replace").split())
        return (line.replace(self._key, "…") if self._key else line)[:160]

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(max(0.0, seconds)):
            raise self._error

    def _ended(self, error: BaseException) -> BaseException:
        """The first error, which ends the waiting of the other threads."""
        self._error = self._error or error
        self._stopped.set()
        return self._error


def is_same_model(asked: str, served: str) -> bool:
    """Whether a server may answer under this name: it has a folder, a date or a tag more or less."""
    names = [name.lower().rstrip("/").rpartition("/")[2] for name in (asked, served)]
    plain = [re.sub(r"(-latest|-\d{4,8}(-\d\d){0,2})?([:@].*)?$", "", name) for name in names]
    return names[0] == names[1] or (plain[0] == plain[1] and bool({*names} & {*plain}))


def _sent(picture: Picture) -> dict[str, Any]:
    image, file = open_image(picture[0]), io.BytesIO()
    image.resize(picture[1], Image.Resampling.BICUBIC).save(file, "JPEG", quality=95, subsampling=0)
    url = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}
