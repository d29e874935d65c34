"""The HTML report: right figures, everything escaped, and in a real browser drawn, quiet and alone."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import BROWSER, NAMES, Site, screenshot, serve, show
from PIL import Image
from report_cases import TIMES, make_profile, with_tower
from vlmp.runtimes.profile.report import MOST_OPERATORS, bars, plot, render, verdict, write_html
from vlmp.runtimes.profile.schema import Phase, Profile

in_a_browser = pytest.mark.skipif(BROWSER is None, reason=f"no browser: none of {', '.join(NAMES)} is installed")
VISION, PRUNER, DARK_CARD = (47, 111, 208), (217, 119, 15), (27, 32, 41)
PHONE_WIDTH = 360
PARTS = ("preprocess", "vision", "prefill_before", "prefill_pruner", "prefill_after")


class Reader(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def with_text(value: Any, text: str) -> Any:
    """Every free text of a profile replaced, the keys of mappings too; what the schema fixes is put back."""
    if isinstance(value, str):
        return text
    if isinstance(value, list):
        return [with_text(one, text) for one in value]
    return {key: with_text(one, text) for key, one in value.items()} if isinstance(value, dict) else value


def hostile_profile(text: str) -> Profile:
    """Whoever made the bundle, the machine or the phone may call things as they like."""
    raw = make_profile().model_dump()
    changed = with_text(raw, text)
    changed["machine"]["kind"] = "host"
    changed["machine"]["runtimes"] = changed["machine"]["facts"] = {text: text}
    for one, before in zip(changed["bundles"], raw["bundles"], strict=True):
        one["operators"] = [operator | {"op": text} for operator in before["operators"]]
        for phase, bound in one["roofline"].items():
            bound["binds"] = before["roofline"][phase]["binds"]
        one["kept_picture"] = text
    for one, before in zip(changed["estimates"], raw["estimates"], strict=True):
        one |= {key: before[key] for key in ("label", "arithmetic", "binds")}
    return Profile.model_validate(changed)


# --- What it says -----------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_profile() -> None:
    text = " ".join(Reader(render(make_profile())).text.split())
    assert "B onnx-vlm-pruner against A onnx-none prefill 1.87× 128 → 68.4 ms, faster to the first token 1.45×" in text
    assert "vision 61.7 59.2 to 64.8 62.1 59.6 to 65.2 0.99×" in text
    assert "64 of 576" in text
    assert "vlm-pruner, before layer 2 of 28" in text
    assert "of 193 ms to the first token it can touch 86 ms" in text
    assert "210 GOP/s, 18.4 GB/s" in text
    assert "peak, resident171.9171.9" in text


def test_several_stages_are_told_one_after_the_other() -> None:
    stages = [
        {"layer": 2, "pruner": "vlm-pruner", "kept_tokens": 128}, {"layer": 4, "pruner": "divprune", "kept_tokens": 64},
    ]  # fmt: skip
    text = " ".join(Reader(render(make_profile(pruner="vlm-pruner+divprune", stages=stages))).text.split())
    assert "vlm-pruner+divprune, before layer 2, 4 of 28" in text
    assert "128, 64 of 576" in text
    assert "128, 64 of 576 visual tokens (vlm-pruner+divprune), numbered in the order of selection" in text
    assert "none, before layer 2 of 28" in text, "a bundle that names no stages, as older profiles have it"


def test_bars_add_up() -> None:
    unpruned, pruned = bars(make_profile())
    assert unpruned.total_ms == pytest.approx(sum(TIMES[name][0] for name in TIMES if name in PARTS))
    assert sum(one.share for one in unpruned.segments) == pytest.approx(1)
    assert sum(one.share for one in pruned.segments) == pytest.approx(pruned.total_ms / unpruned.total_ms)
    assert [one.phase for one in pruned.segments] == list(PARTS)


def test_vision_has_parts_where_a_stage_is_in_the_tower() -> None:
    profile = with_tower(make_profile())
    unpruned, pruned = bars(profile)
    parts = ["vision_before", "vision_pruner", "vision_after"]
    assert [one.phase for one in pruned.segments] == ["preprocess", *parts, *PARTS[2:]]
    assert [one.phase for one in unpruned.segments] == list(PARTS)
    drawn = plot(profile)
    assert drawn is not None
    assert {(dot.phase, dot.kind) for dot in drawn.dots if dot.phase.startswith("vision")} == {
        ("vision", 0), *((part, 1) for part in parts),
    }  # fmt: skip
    page = render(profile)
    text = " ".join(Reader(page).text.split())
    assert "local+vlm-pruner, before layer vision.2, 2 of 28" in text
    assert "B onnx-vlm-pruner: vision split by somebody." in text
    assert "A onnx-none: vision" not in text
    assert "vision: the stage – 2.10 2.02 to 2.21" in text
    assert "TopKvisionvision_pruner31.90 3%" in text
    for part in parts:
        assert f"--{part}: #" in page, "its colour"
        assert f".{part} {{ background: var(--{part})" in page
        assert f'<span class="segment {part}"' in page


def without_extras(profile: Profile) -> Profile:
    """What a device may not tell: no parts of prefill, memory, operators, bounds, picture, estimates, explanation."""
    bundles = [
        one.model_copy(
            update={
                "phases": {name: phase for name, phase in one.phases.items() if not name.startswith("prefill_")},
                "memory": None, "operators": [], "operators_ms": {}, "roofline": {}, "kept_picture": None,
            }
        )
        for one in profile.bundles
    ]  # fmt: skip
    return profile.model_copy(update={"bundles": bundles, "peaks": None, "estimates": [], "explanation": []})


def test_what_is_not_known_is_left_out() -> None:
    profile = without_extras(make_profile())
    page = render(profile)
    for absent in ('id="why"', 'id="roofline"', 'id="operators"', 'id="kept"', 'id="estimates"', "<svg"):
        assert absent not in page
    assert [one.phase for one in bars(profile)[0].segments] == ["preprocess", "vision", "prefill"]
    assert plot(profile) is None
    alone = render(profile.model_copy(update={"bundles": profile.bundles[:1]}))
    assert "against" not in Reader(alone).text.replace("speed-up against", "")


def test_no_phase_at_all() -> None:
    profile = without_extras(make_profile())
    nothing = [one.model_copy(update={"phases": {}}) for one in profile.bundles]
    assert "Memory and size" in render(profile.model_copy(update={"bundles": nothing}))


def test_why_there_is_no_cold_load() -> None:
    first, second = make_profile().bundles
    warm = {name: phase for name, phase in second.phases.items() if name != "load_cold"}
    for share, why in ((0.31, "31% of its files stayed in the page cache"), (None, "this system drops no files")):
        kept = second.model_copy(update={"phases": warm, "cold_cached_share": share})
        profile = make_profile().model_copy(update={"bundles": [first, kept]})
        text = Reader(render(profile)).text
        assert f"B onnx-vlm-pruner: no cold load, {why}" in text
        assert "A onnx-none: no cold load" not in text
    phone = profile.machine.model_copy(update={"kind": "android"})
    assert "no cold load" not in render(profile.model_copy(update={"machine": phone}))


def test_noise_is_no_verdict() -> None:
    def phase(low: float, high: float) -> Phase:
        return Phase(median_ms=(low + high) / 2, low_ms=low, high_ms=high, samples_ms=[low, high])

    assert verdict(phase(10, 12), phase(8, 9)) == "faster"
    assert verdict(phase(10, 12), phase(13, 14)) == "slower"
    assert verdict(phase(10, 12), phase(11, 14)) == ""


def test_dots_of_the_plot() -> None:
    """All phases with products and a bound; the higher the faster, the machine's roofs over all."""
    drawn = plot(make_profile())
    assert drawn is not None
    assert {(dot.phase, dot.kind) for dot in drawn.dots} == {
        (phase, kind) for phase in ("vision", "prefill_before", "prefill_after", "decode") for kind in (0, 1)
    } | {("prefill_pruner", 1)}
    after = {dot.kind: dot for dot in drawn.dots if dot.phase == "prefill_after"}
    assert after[1].y < after[0].y  # 191 and 140 GOP/s
    roof = [tuple(map(float, point.split(","))) for point in drawn.roofs[0].points.split()]
    assert all(dot.y > roof[-1][1] - 1 for dot in drawn.dots)
    assert roof[1][1] == roof[2][1] < roof[0][1]


def test_long_operator_tables_are_cut_and_summed() -> None:
    reader = Reader(render(make_profile()))
    others = 35 - MOST_OPERATORS
    assert f"{others} others" in reader.text
    assert reader.text.count("Kind29") == 2
    assert "Kind1 " not in reader.text


def test_estimates_stand_apart() -> None:
    page = render(make_profile())
    before, _, behind = page.partition('id="estimates"')
    for phone in ("Pixel 8 (Google Tensor G3)", "iPhone 16 Pro (Apple A18 Pro)"):
        assert phone not in before
        assert phone in behind
    assert behind.count("estimate, not measured") == 3  # over all, and in each table's caption


def test_the_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    write_html(make_profile(), tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render(make_profile())


# --- Alone and escaped ------------------------------------------------------------------------------------------------

HOSTILE = (
    "\"><script>document.documentElement.id = 'owned'; fetch('ADDRESS/script')</script>"
    "'><img src=ADDRESS/picture onerror=\"document.documentElement.id = 'owned'\">"
    "<style>@import 'ADDRESS/style';</style></title></table></details>{{ 7 * 7 }}{% raw %} --> ]]>"
)


def test_nothing_is_loaded_from_anywhere() -> None:
    reader = Reader(render(make_profile()))
    assert {tag for tag, _ in reader.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"} == set()
    for _, attributes in reader.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert (attributes.get(name) or "data:image/png").startswith("data:image/png")
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in render(make_profile())
    policy = next(one["content"] for one in reader.of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_names_stay_text() -> None:
    page = render(hostile_profile(HOSTILE))
    reader, plain = Reader(page), Reader(render(make_profile()))
    assert [tag for tag, _ in reader.tags if tag in ("script", "style", "img")] == ["style", "img", "img"]
    assert {tag for tag, _ in reader.tags} == {tag for tag, _ in plain.tags}
    assert reader.text.count("{{ 7 * 7 }}") > 40
    assert "49{%" not in reader.text
    assert html.escape("<script>") in page


def test_structure_for_readers_of_screens() -> None:
    reader = Reader(render(make_profile()))
    assert reader.of("html") == [{"lang": "en"}]
    assert all(one.get("alt") for one in reader.of("img"))
    assert all(one.get("scope") in ("row", "col") for one in reader.of("th"))
    ids = {one["id"] for _, one in reader.tags if "id" in one}
    assert {one["aria-labelledby"] for _, one in reader.tags if "aria-labelledby" in one} <= ids
    headings = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))


# --- In a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Any:
    with serve(tmp_path) as served:
        write_html(make_profile(), tmp_path / "report.html")
        yield served


def unasked(site: Site) -> list[str]:
    """Requests beside those for the page itself."""
    return [path for path in site.asked if "report.html" not in path and "frame.html" not in path]


def put_frame(site: Site, measure: str) -> str:
    """A page around the report, as wide as a phone, which writes down what it measures. Returns its address."""
    (site.folder / "frame.html").write_text(
        f"<!doctype html><link rel=icon href=data:,><iframe src=report.html width={PHONE_WIDTH} height=900 "
        "style='border:0'></iframe><pre id=measured></pre><script>onload = () => {"
        f"const page = frames[0].document; measured.textContent = JSON.stringify({measure}) }}</script>"
    )
    return f"{site.address}/frame.html"


def measured(dom: str) -> Any:
    found = re.search(r'<pre id="measured">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None, dom
    return json.loads(html.unescape(found[1]))


@in_a_browser
def test_charts_are_drawn_on_a_phone_and_nothing_sticks_out(site: Site) -> None:
    shown = show(
        put_frame(
            site,
            "{width: page.documentElement.scrollWidth,"
            " segments: [...page.querySelectorAll('.segment')].map(one => one.getBoundingClientRect().width),"
            " bars: [...page.querySelectorAll('.bar')].map(one => one.getBoundingClientRect().width),"
            " dots: [...page.querySelectorAll('circle')].map(one => one.getBoundingClientRect().width),"
            " pictures: [...page.images].map(one => one.naturalWidth)}",
        )
    )
    found = measured(shown.dom)
    assert found["width"] <= PHONE_WIDTH
    unpruned, pruned = found["segments"][:5], found["segments"][5:]
    assert sum(unpruned) == pytest.approx(found["bars"][0], abs=1)
    assert sum(pruned) == pytest.approx(found["bars"][1] * 133.5 / 193, abs=2)
    assert unpruned[1] == pytest.approx(found["bars"][0] * 61.7 / 193, abs=1)
    assert len(found["dots"]) == 9
    assert min(found["dots"]) > 5
    assert min(found["pictures"]) > 100
    assert shown.console == []
    assert unasked(site) == []


@in_a_browser
def test_light_and_dark(site: Site, tmp_path: Path) -> None:
    colours = []
    for name, options in (("light", ()), ("dark", ("--blink-settings=preferredColorScheme=0",))):
        path = tmp_path / f"{name}.png"
        screenshot(f"{site.address}/report.html", path, (900, 2600), *options)
        with Image.open(path) as picture:
            assert picture.size == (900, 2600)
            counted = {colour: count for count, colour in picture.convert("RGB").getcolors(1 << 24) or []}
        colours.append(counted)
        assert counted.get(VISION, 0) > 5000, name
        assert counted.get(PRUNER, 0) > 300, name
    light, dark = colours
    assert light.get((255, 255, 255), 0) > 900 * 2600 / 3
    assert dark.get(DARK_CARD, 0) > 900 * 2600 / 3
    assert DARK_CARD not in light


@in_a_browser
def test_hostile_names_neither_run_nor_ask_for_anything(site: Site) -> None:
    text = HOSTILE.replace("ADDRESS", site.address)
    write_html(hostile_profile(text), site.folder / "report.html")
    shown = show(f"{site.address}/report.html")
    assert '<html lang="en">' in shown.dom
    assert "owned" in Reader(shown.dom).text  # as text it is there
    assert [path for path in unasked(site) if path != "/favicon.ico"] == []
    assert not any("script" in line.lower() for line in shown.console)


@in_a_browser
def test_the_same_names_unescaped_would_have(site: Site) -> None:
    """Or the test above would prove nothing."""
    text = HOSTILE.replace("ADDRESS", site.address)
    (site.folder / "report.html").write_text(f'<!doctype html><title>x</title><table title="{text}"></table>')
    shown = show(f"{site.address}/report.html")
    assert '<html id="owned">' in shown.dom
    assert {"/script", "/picture", "/style"} <= set(unasked(site))


@in_a_browser
def test_the_policy_holds_even_where_escaping_would_fail(site: Site) -> None:
    text = HOSTILE.replace("ADDRESS", site.address)
    page = render(make_profile()).replace("What was compared</h2>", f'What was compared</h2><p title="{text}">')
    (site.folder / "report.html").write_text(page)
    shown = show(f"{site.address}/report.html")
    assert 'id="owned"' not in shown.dom
    assert [path for path in unasked(site) if path != "/favicon.ico"] == []
    assert any("Content Security Policy" in line for line in shown.console)
