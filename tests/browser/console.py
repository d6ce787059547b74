"""`headgate dashboard` as a process, Chromium's pages on it, and what every page of the console must keep to."""

import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Page, ViewportSize

from tests.deployment import CHECKOUT, wait_until

ADDRESS = re.compile(r"the console is at (\S+)")
WIDE: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 360, "height": 740}
#: Chromium's own words for an answer that is no success; the pages' words for it are what tests look at.
FAILED_REQUEST = re.compile(r"^Failed to load resource")


@dataclass(slots=True)
class ConsoleProcess:
    """One `headgate dashboard`, running from construction until `stop`. environment: all of it."""

    environment: dict[str, str]
    log: Path
    process: "subprocess.Popen[bytes]" = field(init=False)

    def __post_init__(self) -> None:
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ops", "dashboard"],
                env=self.environment | {"PYTHONPATH": str(CHECKOUT)},
                cwd=self.log.parent,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def url(self) -> str:
        """Waits until it is printed."""

        def printed() -> re.Match[str] | None:
            said = self.log.read_text(errors="replace")
            assert self.process.poll() is None, said
            return ADDRESS.search(said)

        return wait_until("the console prints its address", printed)[1]

    def stop(self) -> int:
        """The exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@dataclass(slots=True)
class Complaints:
    """What a page should never say: errors of its own, refusals by the content security policy."""

    said: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.said.append(f"uncaught: {error}"))
        page.on("console", lambda message: self._heard(message))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not FAILED_REQUEST.match(message.text):
            self.said.append(f"{message.type}: {message.text}")


#: Of a page: what somebody who can't see it, or has a narrow window, would stumble over.
SHORTCOMINGS = """() => {
    const seen = (element) => element.checkVisibility({ visibilityProperty: true });
    const all = (selector) => [...document.querySelectorAll(selector)].filter(seen);
    const text = (id) => document.getElementById(id)?.textContent ?? "";
    const name = (element) => element.getAttribute("aria-label")
        || (element.getAttribute("aria-labelledby") ?? "").split(" ").map(text).join(" ").trim()
        || [...(element.labels ?? [])].map((label) => label.textContent).join(" ").trim()
        || (element.matches("button, a, summary") ? element.textContent.trim() : "");
    const short = (element) => element.outerHTML.slice(0, 160);
    const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
    const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    const beyond = (element) => element.getBoundingClientRect().right > innerWidth + 1
        && !element.parentElement.closest(".table-frame, svg, pre");
    const over = wide > 0 ? all("main *").filter(beyond) : [];
    const named = "button, input, select, textarea, a, summary, dialog, [role=img], [role=region], [role=group]";
    const levels = all("h1, h2, h3, h4").map((heading) => Number(heading.tagName[1]));
    return [
        ...all(named).filter((element) => !name(element)).map((element) => `without a name: ${short(element)}`),
        ...[...document.querySelectorAll("img:not([alt])")].map((image) => `without alt: ${short(image)}`),
        ...ids.filter((id, index) => ids.indexOf(id) !== index).map((id) => `twice the id ${id}`),
        ...(all("h1").length === 1 ? [] : [`${all("h1").length} headings of the first level`]),
        ...levels.filter((level, index) => index > 0 && level > levels[index - 1] + 1)
            .map((level) => `a heading of level ${level} skips one`),
        ...(wide > 0 ? [`scrolls sideways by ${wide}: ${over.slice(0, 3).map(short).join(" | ")}`] : []),
    ];
}"""
