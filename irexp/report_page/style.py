"""The style sheet and the script of a page.

The script only shows the chosen comparison and copies commands; without it all comparisons are there, to be opened.
"""

from __future__ import annotations

from irexp.report_page.mark import COLOURS

_LIGHT = "".join(f".c{number}{{--row:{light}}}" for number, (light, _) in enumerate(COLOURS))
_DARK = "".join(f".c{number}{{--row:{dark}}}" for number, (_, dark) in enumerate(COLOURS))

STYLE = f"""
:root {{ color-scheme: light dark; --page: #fff; --text: #1b1f24; --quiet: #59636e; --rule: #d1d9e0; --soft: #f6f8fa;
  --gain: #0072b2; --loss: #d55e00; }}
{_LIGHT}
@media (prefers-color-scheme: dark) {{
  :root {{ --page: #12161b; --text: #e6edf3; --quiet: #9aa5b1; --rule: #343c46; --soft: #1b2129;
    --gain: #4fb3ee; --loss: #ff8a3d; }}
  {_DARK}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 68rem; background: var(--page); color: var(--text);
  font: .94rem/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }}
h1 {{ font-size: 1.6rem; margin: 0 0 .25rem; }}
h2 {{ font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--rule); }}
h4 {{ margin: 1.2rem 0 .4rem; }}
a {{ color: var(--gain); }}
nav a {{ margin-right: 1rem; }}
.quiet, .foot {{ color: var(--quiet); }}
.foot {{ font-size: .86rem; max-width: 60rem; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .9rem; }}
th, td {{ padding: .3rem .7rem; text-align: left; border-bottom: 1px solid var(--rule); vertical-align: top; }}
th {{ font-weight: 600; }}
thead th, thead tr:last-child td {{ border-bottom: 2px solid var(--rule); }}
tbody th {{ font-weight: 400; }}
.over {{ text-align: center; }}
.number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
sup {{ line-height: 0; }}
code, pre {{ font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .82rem; }}
pre {{ margin: .2rem 0 1rem; padding: .6rem .8rem; background: var(--soft); border: 1px solid var(--rule);
  border-radius: 5px; white-space: pre-wrap; overflow-wrap: anywhere; }}
.command p {{ margin: .8rem 0 .2rem; }}
button, select {{ font: inherit; color: inherit; background: var(--soft); border: 1px solid var(--rule);
  border-radius: 5px; padding: .15rem .6rem; max-width: 20rem; }}
.copy {{ font-size: .8rem; }}
.id {{ color: var(--quiet); font-size: .82rem; overflow-wrap: anywhere; }}
svg text {{ fill: var(--text); font-size: 12px; }}
svg .name, svg .small {{ fill: var(--quiet); }}
svg .small {{ font-size: 11px; }}
.swatch {{ vertical-align: -2px; }}
.line {{ fill: none; stroke: var(--row); stroke-width: 2; stroke-linejoin: round; }}
.mark {{ fill: var(--row); stroke: var(--page); stroke-width: 1; }}
.grid {{ stroke: var(--rule); stroke-width: 1; }}
.axis {{ stroke: var(--quiet); stroke-width: 1; }}
.front {{ fill: none; stroke: var(--quiet); stroke-dasharray: 4 4; }}
rect.gain {{ fill: var(--gain); }}
rect.loss {{ fill: var(--loss); }}
rect.tie {{ fill: var(--quiet); }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem; }}
.chart {{ width: 100%; max-width: 960px; height: auto; }}
.legend {{ display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; padding: 0; margin: .5rem 0; list-style: none;
  font-size: .88rem; }}
.edge {{ fill: none; stroke: var(--quiet); stroke-width: 1.2; }}
.box {{ fill: var(--soft); stroke: var(--rule); stroke-width: 1.2; }}
.box.given {{ stroke-dasharray: 4 3; stroke: var(--quiet); }}
.difference {{ border: 1px solid var(--rule); border-radius: 6px; padding: .6rem 1rem; margin: .6rem 0; }}
.difference summary {{ cursor: pointer; }}
.change {{ border-top: 1px solid var(--rule); padding: .5rem 0; break-inside: avoid; }}
.change p {{ margin: .15rem 0; }}
.both {{ display: grid; grid-template-columns: 1fr 1fr; gap: 1.5rem; font-size: .86rem; }}
.both > div {{ min-width: 0; }}
.both ol {{ margin: .2rem 0; padding-left: 1.4rem; overflow-wrap: anywhere; }}
.delta {{ font-variant-numeric: tabular-nums; font-weight: 600; }}
.delta.gain {{ color: var(--gain); }}
.delta.loss {{ color: var(--loss); }}
.grade {{ border: 1px solid var(--rule); border-radius: 3px; padding: 0 .35rem; font-size: .78rem;
  white-space: nowrap; }}
.grade.relevant {{ border-color: var(--gain); color: var(--gain); }}
@media (max-width: 40rem) {{ .both {{ grid-template-columns: 1fr; }} }}
@media print {{
  :root {{ color-scheme: light; --page: #fff; --text: #000; --quiet: #444; --rule: #bbb; --soft: #fff;
    --gain: #0072b2; --loss: #d55e00; }}
  {_LIGHT}
  @page {{ margin: 15mm; }}
  html {{ font-size: 8pt; }}
  body {{ max-width: none; padding: 0; }}
  nav, .script {{ display: none !important; }}
  h2, h4, summary, .legend {{ break-after: avoid; }}
  tr, svg, .command {{ break-inside: avoid; }}
  .scroll {{ overflow: visible; }}
  th, td {{ padding: .2rem .45rem; }}
  .charts {{ grid-template-columns: 1fr 1fr; }}
  .lineage {{ min-width: 0 !important; height: auto; }}
  .difference:not([open]) {{ display: none; }}
}}
"""

SCRIPT = """
"use strict";
for (const one of document.querySelectorAll(".script")) one.hidden = false;
const choices = [...document.querySelectorAll("select[data-choice]")];
function choose() {
  const [row, other, column] = choices.map((one) => one.value);
  let isFound = false;
  for (const one of document.querySelectorAll("details.difference")) {
    const rows = [one.dataset.row, one.dataset.other];
    const isChosen = one.dataset.column === column && rows.includes(row) && rows.includes(other) && row !== other;
    one.hidden = !isChosen;
    one.open = isChosen;
    isFound = isFound || isChosen;
  }
  document.getElementById("absent").hidden = isFound;
}
if (choices.length) {
  for (const one of choices) one.addEventListener("change", choose);
  choose();
}
for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const code = button.closest(".command").querySelector("code");
    getSelection().selectAllChildren(code);
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      document.execCommand("copy");
    }
    button.textContent = "Copied";
  });
}
"""
