"""A real headless Chromium, driven through the pipe of its DevTools protocol: no package, no port."""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.report.test_render import chromium

FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
FLAGS += " --disable-component-update --remote-debugging-pipe"


class Browser:
    """One page. Every message that its console shows is in ``console``, every address it asked for in ``requests``."""

    def __init__(self, profile: Path, width: int = 1000, height: int = 900) -> None:
        self.console: list[str] = []
        self.requests: list[str] = []
        (read, out), (into, write) = os.pipe(), os.pipe()
        command = (
            f"exec {shlex.quote(chromium())} {FLAGS} --user-data-dir={shlex.quote(str(profile))} 3<&{into} 4>&{out}"
        )
        silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(["bash", "-c", command], pass_fds=(into, out), **silent)
        os.close(into)
        os.close(out)
        self._write, self._read = os.fdopen(write, "wb"), os.fdopen(read, "rb")
        self._number, self._left, self._session = 0, b"", ""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._write.close()
        self._read.close()
        self._process.terminate()
        self._process.wait()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command's result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, answer
        return dict(answer["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            part = os.read(self._read.fileno(), 1 << 16)
            assert part, "the browser is gone"
            self._left += part
        first, self._left = self._left.split(b"\0", 1)
        return dict(json.loads(first))

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.console.append(json.dumps(event["params"]))
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(event["params"]["request"]["url"])

    def run(self, script: str) -> Any:
        """Value of a script, waited for."""
        found = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, address: str) -> None:
        self.send("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def wait(self, condition: str) -> None:
        """Until it is true, 20 s at most."""
        script = f"""new Promise((done, failed) => {{
            const late = setTimeout(() => failed("too late: " + document.body.innerText), 20000);
            const look = () => ({condition}) ? (clearTimeout(late), done(true)) : setTimeout(look, 20);
            look(); }})"""
        self.run(script)

    def press(self, key: str, code: int) -> None:
        """A key on the keyboard."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def write(self, text: str) -> None:
        """Into the field that has the focus."""
        self.send("Input.insertText", text=text)

    def picture(self, path: Path) -> None:
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
