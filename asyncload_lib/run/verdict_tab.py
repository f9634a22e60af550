"""A tab of Locust's web UI with the verdict of the newest test, and its report beside Locust's own downloads."""

import json
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, abort, request, send_file
from locust.web import WebUI

from asyncload_lib.report.numbers import NOTHING
from asyncload_lib.report.view import build
from asyncload_lib.run.session import Session

__all__ = ["add_verdict_tab"]

KEY = "verdict"
COLUMNS = ("Verdict", "Criterion", "Limit", "Observed", "Remark")
FILES = {
    "html": "asyncload: report with verdict (HTML)",
    "md": "asyncload: report with verdict (Markdown)",
    "xml": "asyncload: criteria as JUnit XML",
    "json": "asyncload: results (JSON)",
}
UNJUDGED = "The verdict appears here after a test has ended. If it is missing some seconds after STOP, reload the page."


def add_verdict_tab(web_ui: WebUI, base_path: str | None, newest: Callable[[], Session | str | None]) -> None:
    """Add both; `newest()` gives the session begun last, whether it has ended or not, or why it could not begin."""

    def report(ending: str) -> Response:
        session = newest()
        path = session.files.get(ending) if isinstance(session, Session) else None
        if path is None or not path.is_file():
            abort(404, "There is no such file yet: it is written when a test ends.")
        return send_file(path.resolve())

    def add_rows(response: Response) -> Response:
        if request.endpoint == "locust.request_stats" and response.is_json:
            document = response.get_json()
            others = [stats for stats in document.get("extended_stats", []) if stats["key"] != KEY]
            document["extended_stats"] = [*others, {"key": KEY, "data": _rows(newest())}]
            response.set_data(json.dumps(document))
        return response

    blueprint = Blueprint("asyncload", __name__, url_prefix=base_path or None)
    blueprint.add_url_rule("/asyncload/report.<ending>", "report", web_ui.auth_required_if_enabled(report))
    blueprint.after_app_request(add_rows)
    assert web_ui.app is not None
    web_ui.app.register_blueprint(blueprint)
    structure = [{"key": title.lower(), "title": title} for title in COLUMNS]
    for place, ours in (
        ("extended_tabs", [{"title": "Verdict", "key": KEY}]),
        ("extended_tables", [{"key": KEY, "structure": structure}]),
        ("extended_csv_files", [{"href": f"./asyncload/report.{end}", "title": title} for end, title in FILES.items()]),
    ):
        web_ui.template_args.setdefault(place, []).extend(ours)


def _rows(session: Session | str | None) -> list[dict[str, str]]:
    """Give the rows of the tab: the verdict on the whole, what keeps it from being certified, then each criterion."""
    if isinstance(session, str):
        return [_row(Verdict="not started", Criterion=session)]
    if session is None or session.document is None:
        return [_row(Verdict=NOTHING, Criterion=UNJUDGED)]
    view = build(session.document)
    run = session.document["run"]
    rows = [_row(Verdict=view.verdict, Criterion=view.sentence, Remark=f"run {run['id']}, ended {run['ended']}")]
    rows += [_row(Criterion=reason) for reason in (*view.reasons, session.unwritten) if reason]
    if view.criteria is not None:
        titles = [column.title for column in view.criteria.columns]
        rows += [_row(**dict(zip(titles, cells, strict=True))) for cells in view.criteria.rows]
    return rows + [_row(Criterion=note) for note in view.criteria_notes]


def _row(**cells: Any) -> dict[str, str]:
    return {title.lower(): str(cells.get(title, "")) for title in COLUMNS}
