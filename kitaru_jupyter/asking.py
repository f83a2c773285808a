"""The form below a cell whose flow waits: a field that fits the schema, and buttons that answer, close and go on.

It does what ``%kitaru answer``, ``abort`` and ``resume`` do, and shows the line that does the same. Stores are asked in
a thread; what is recorded goes in as text.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from IPython.core.display_functions import display

from kitaru.client import Execution, ExecutionStatus, KitaruClient, PendingWait
from kitaru.errors import KitaruError, UsageError

from . import display as faces, questions

if TYPE_CHECKING:
    from .magics import KitaruMagics

__all__ = ["Field", "Form", "field_of"]

_MOST_BUTTONS = 6
_MOST_FIELDS = 12
_WIDE = {"width": "36em", "max_width": "100%"}
_ROW = {"flex_flow": "row wrap"}
_BESIDE = "display:inline-block;min-width:7em"


class Field:
    """What a person fills in.

    Parameters
    ----------
    widget
        What stands in the form.
    read
        What is filled in, as data. Raises `UsageError`.
    """

    def __init__(self, widget: Any, read: Callable[[], Any]) -> None:
        self.widget, self.read = widget, read


def choices_of(schema: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    """The answers that a schema leaves, with their labels, where they are few enough for a button each; else none."""
    said = schema or {}
    if said.get("type") == "boolean":
        return [("Yes", True), ("No", False)]
    choices = said.get("enum")
    if not isinstance(choices, list) or not 0 < len(choices) <= _MOST_BUTTONS:
        return []
    return [(_label(choice), choice) for choice in choices]


def field_of(schema: Mapping[str, Any] | None, wait: PendingWait) -> Field:
    """A field for what a schema describes: of an object one for each simple property, else JSON."""
    said = schema or {}
    properties = said.get("properties")
    if said.get("type") == "object" and isinstance(properties, Mapping) and 0 < len(properties) <= _MOST_FIELDS:
        parts = {f"{name}": _simple(part) for name, part in properties.items()}
        if all(part is not None for part in parts.values()):
            return _object(said, {name: part for name, part in parts.items() if part is not None})
    simple = _simple(said) if said else None
    if simple is not None:
        return simple
    text = widgets.Textarea(json.dumps(wait.example, ensure_ascii=False), rows=4, layout=_WIDE)
    return Field(text, lambda: wait.read(text.value))


def _simple(schema: Any) -> Field | None:
    """A field for a boolean, a choice, a text or a number; None for all else."""
    if not isinstance(schema, Mapping):
        return None
    default = schema.get("default")
    if isinstance(choices := schema.get("enum"), list) and choices:
        return _chosen([(_label(choice), choice) for choice in choices], default)
    kind = schema.get("type")
    if kind == "boolean":
        return _chosen([("Yes", True), ("No", False)], default)
    if kind == "string":
        text = widgets.Textarea(default if isinstance(default, str) else "", rows=2, layout=_WIDE)
        return Field(text, lambda: text.value)
    if kind in {"integer", "number"}:
        number = widgets.Text("" if default is None else json.dumps(default), placeholder=str(kind))
        return Field(number, lambda: _number(number.value))
    return None


def _chosen(choices: list[tuple[str, Any]], default: Any) -> Field:
    places = [place for place, (_, choice) in enumerate(choices) if choice == default and type(choice) is type(default)]
    options = [(label, place) for place, (label, _) in enumerate(choices)]
    if len(choices) <= _MOST_BUTTONS:
        buttons = widgets.ToggleButtons(options=options, index=places[0] if places else None)
    else:
        buttons = widgets.Dropdown(options=options, index=places[0] if places else None)

    def read() -> Any:
        if buttons.value is None:
            raise UsageError("choose one")
        return choices[buttons.value][1]

    return Field(buttons, read)


def _object(schema: Mapping[str, Any], parts: Mapping[str, Field]) -> Field:
    properties, required = schema["properties"], schema.get("required", ())

    def read() -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, part in parts.items():
            try:
                value = part.read()
            except UsageError as e:
                if name in required:
                    raise UsageError(f"{name}: {e}") from None
                continue
            if value == "" and name not in required:
                continue  # it was left empty
            out[name] = value
        return out

    rows = []
    for name, part in parts.items():
        part.widget.tooltip = title = _title(properties[name], name)  # what a screen reader says of it
        rows.append(widgets.HBox([_text(title, _BESIDE), part.widget], layout=_ROW))
    return Field(widgets.VBox(rows), read)


def _title(schema: Any, name: str) -> str:
    described = schema.get("description") if isinstance(schema, Mapping) else None
    return (
        f"{faces.line(name, 60)}: {faces.line(described, 120)}" if isinstance(described, str) else faces.line(name, 60)
    )


def _number(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{faces.line(text, 40)!r} is no number")
    return value


def _label(choice: Any) -> str:
    return faces.line(questions.as_text(choice), 60) or "(nothing)"


def _text(text: str, style: str = "") -> Any:
    """Text, which stays text."""
    return widgets.HTML(f'<span style="white-space:pre-wrap;{style}">{html.escape(text)}</span>')


class Form:
    """What an execution asks of people, and what they may do about it.

    Parameters
    ----------
    magics
        Whose notebook it stands in.
    execution
        What waits.
    """

    def __init__(self, magics: KitaruMagics, execution: Execution) -> None:
        from .browser.work import Worker

        shell = magics.shell
        kernel = getattr(shell, "kernel", None)
        self._magics, self._face = magics, questions.shown(execution, magics.notebook.named(execution))
        self._client, self._exec_id = KitaruClient(execution.store), execution.exec_id
        self._execution = execution
        self._worker = Worker("kitaru-form", kernel.get_parent("shell") if kernel is not None else None)
        self._progress: Any = None
        self._deeds: Any = None
        self.told = widgets.HTML()
        self.goes_on = self._button("Go on", self._go_on, questions.resume_line(self.name), style="primary")
        self.stop = self._button("Stop", self._stop, "before its next step")
        self.goes_on.layout.display = self.stop.layout.display = "none"
        self._foot = widgets.HBox([self.goes_on, self.stop, self.told])
        self.sections: list[_Section] = []
        self.widget = widgets.VBox()
        self._ask(execution)

    def _ask(self, execution: Execution, *, again: bool = False) -> None:
        """Put the questions that are open now. The first ones stand above the form already."""
        waits = [w for w in questions.pending(execution) if questions.is_asked(w)]
        self.sections = [_Section(self, w, is_said=not again and len(waits) == 1) for w in waits]
        self.widget.children = (*(s.box for s in self.sections), self._foot)

    @property
    def name(self) -> str:
        """What the execution is called in a line of this notebook."""
        return self._magics.notebook.named(self._execution)

    def publish(self) -> None:
        """Show it below the cell.

        What is asked, and the lines that do the same, are an output of their own: they stay where no kernel is, and a
        bundle with a widget in it is not shown there.
        """
        faces.publish(self._face)
        bundle = self.widget._repr_mimebundle_()
        data = dict(bundle[0] if isinstance(bundle, tuple) else bundle or {})
        buttons = [b.description for section in self.sections for b in section.buttons]
        display({**data, "text/plain": " ".join(f"[{faces.line(b)}]" for b in buttons)}, raw=True)

    def rest(self, timeout: float | None = None) -> bool:
        """Wait until nothing is on its way; whether that came."""
        return self._worker.rest(timeout)

    def _button(self, label: str, do: Callable[[], None], tip: str, style: str = "") -> Any:
        button = widgets.Button(description=label, tooltip=tip, button_style=style)
        button.on_click(lambda _: do())
        return button

    # ------------------------------------------------------------ what the buttons do

    def answer(self, section: _Section, read: Callable[[], Any]) -> None:
        """The button: checked first, and where it is refused nothing has changed."""
        w = section.wait

        def deed() -> str:
            value = read()
            self._client.executions.input(self._exec_id, w.id, value)
            return questions.answer_line(self.name, w, value)

        self._close(section, deed)

    def abort(self, section: _Section) -> None:
        """The other button."""
        w, reason = section.wait, section.reason.value

        def deed() -> str:
            self._client.executions.abort_wait(self._exec_id, w.id, reason=reason)
            return questions.abort_line(self.name, w, reason)

        self._close(section, deed)

    def _close(self, section: _Section, deed: Callable[[], str]) -> None:
        section.is_off = self.goes_on.disabled = True
        self._say("on its way …", "")  # the first answer of a process loads what checks it, which may take seconds

        def work() -> None:
            try:
                line = deed()
            except Exception as e:  # the store's, or of a type that checks the answer
                said = e if isinstance(e, KitaruError) else f"{type(e).__name__}: {e}"
                self._say(f"{said}", "")
                section.is_off = False
                with suppress(KitaruError):  # of a store that is gone: it may be tried again
                    self._look_again(section)
                return
            self._say(
                f"{section.wait.name} of {self._exec_id} is closed", f"{line}\n{questions.resume_line(self.name)}"
            )
            self._offer()

        self._worker.do(work)

    def _look_again(self, section: _Section) -> None:
        """Where somebody else has closed it, there is nothing to answer, but perhaps something to go on with."""
        execution = self._client.executions.get(self._exec_id)
        is_over = execution.status.is_finished
        section.is_off = is_over or section.wait.id not in {w.id for w in questions.pending(execution)}
        if section.is_off and not is_over:
            self._offer()

    def _offer(self) -> None:
        self.goes_on.layout.display, self.goes_on.disabled = None, False

    def _say(self, text: str, line: str) -> None:
        code = f'<pre style="margin:0">{html.escape(faces.block(line, 2000))}</pre>' if line else ""
        self.told.value = f'<span style="white-space:pre-wrap">{html.escape(faces.line(text, 1000))}</span>{code}'

    def _go_on(self) -> None:
        from .browser.deeds import Deeds
        from .browser.desk import Desk
        from .browser.work import Progress

        self.goes_on.disabled = True
        self.stop.layout.display = None
        progress = self._progress = Progress(self._show)
        deeds = self._deeds = Deeds(self._magics)
        desk = Desk(self._client, self._magics.notebook.named)

        def work() -> None:
            try:
                desk.execution = desk.shown = self._client.executions.get(self._exec_id)
                told = deeds.do("resume", desk, {}, progress)
                progress.say(now=True, at="")  # what is on its way comes no later than what it came to
                self._say(told.text, told.line)
                now = self._client.executions.get(self._exec_id)
                self._ask(now, again=True)
                self.goes_on.disabled = False
                self.goes_on.layout.display = "none" if self.sections or now.status.is_finished else None
                if now.status is ExecutionStatus.COMPLETED:
                    self._worker.close()
            except BaseException as e:  # of the flow's code, on its way to be imported, say
                self._say(f"{e}" if isinstance(e, KitaruError) else f"{type(e).__name__}: {e}", "")
                self.goes_on.disabled = False
            finally:
                self.stop.layout.display = "none"

        self._worker.do(work)

    def _show(self, state: dict[str, Any]) -> None:
        if state.get("at"):
            self._say(f"{self._exec_id}: {state['at']}", "")

    def _stop(self) -> None:
        if self._progress is not None and self._deeds is not None:
            self._deeds.stop(self._progress)


class _Section:
    """One question."""

    def __init__(self, form: Form, wait: PendingWait, *, is_said: bool) -> None:
        self.wait = wait
        self.reason = widgets.Text(placeholder="Why (the flow is told)")
        choices = choices_of(wait.schema)
        abort = form._button("Abort", lambda: form.abort(self), questions.abort_line(form.name, wait))
        facts = [_text(f"{key}: {text[:2000]}", "opacity:.8") for key, text in questions.metadata(wait)]
        asked = f"{wait.name}: {wait.question or 'an answer, please'}"
        head = [] if is_said else [_text(asked[:2000], "font-weight:600"), *facts]
        self.field = None if choices else field_of(wait.schema, wait)
        if self.field is None:
            answers = [
                form._button(label, self._answering(form, choice), questions.answer_line(form.name, wait, choice))
                for label, choice in choices
            ]
        else:
            tip = questions.answer_line(form.name, wait)
            answers = [form._button("Answer", lambda: form.answer(self, self._read), tip, style="primary")]
        self.buttons = [*answers, abort]
        rows = [*head, *([self.field.widget] if self.field is not None else [])]
        self.box = widgets.VBox([*rows, widgets.HBox([*self.buttons, self.reason])])

    def _answering(self, form: Form, choice: Any) -> Callable[[], None]:
        return lambda: form.answer(self, lambda: choice)

    def _read(self) -> Any:
        assert self.field is not None
        return self.field.read()

    @property
    def is_off(self) -> bool:
        """Whether nothing can be done about it now."""
        return bool(self.buttons[0].disabled)

    @is_off.setter
    def is_off(self, off: bool) -> None:
        for button in self.buttons:
            button.disabled = off
