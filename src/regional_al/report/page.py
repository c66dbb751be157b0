"""The page of the report: style sheet and jinja2 template. No script, nothing from the network."""

from __future__ import annotations

STYLE = """
:root { --ink: #1f2933; --muted: #5b6875; --line: #dfe3e8; --soft: #f5f7f9; --accent: #1f5fa8; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: #fff; color: var(--ink);
  font: 16px/1.5 -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "Liberation Sans",
  "DejaVu Sans", sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 28px 20px 48px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .2em; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.4em 0 .5em; padding-top: .9em;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6em 0 .5em; }
p { margin: .4em 0 .9em; max-width: 105ch; }
.note, .sub, figcaption { color: var(--muted); font-size: .875rem; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, "Liberation Mono", "DejaVu Sans Mono",
  monospace; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px;
  padding: .7em .9em; overflow-x: auto; font-size: .875rem; margin: .9em 0; }
.banner { border-left: 4px solid var(--accent); background: #eef4fb; padding: .6em .9em;
  margin: 1em 0; border-radius: 0 6px 6px 0; overflow-wrap: anywhere; }
.banner.open { border-color: #c77d0a; background: #fdf5e6; }
.tiles { display: grid; gap: 10px; margin: 1.2em 0 0;
  grid-template-columns: repeat(auto-fit, minmax(136px, 1fr)); }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: .7em .9em; }
.tile b { display: block; font-size: 1.4rem; line-height: 1.25; font-weight: 650;
  font-variant-numeric: tabular-nums; }
.tile span { display: block; font-size: .8125rem; color: var(--muted); }
.pair { display: grid; gap: 20px; grid-template-columns: repeat(2, minmax(0, 1fr)); }
figure { margin: 0; min-width: 0; }
figure img { display: block; width: 100%; height: auto; }
.chart { max-width: 580px; }
.scroll { overflow: auto; max-height: 78vh; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .36em .7em; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
tr:last-child td, tr:last-child th { border-bottom: 0; }
thead { position: sticky; top: 0; z-index: 2; }
thead th { background: var(--soft); font-weight: 600; }
thead tr.second th { color: var(--muted); font-weight: 500; }
th:first-child { position: sticky; left: 0; z-index: 1; text-align: left; background: #fff;
  font-weight: 500; }
thead th:first-child { z-index: 3; background: var(--soft); }
td.gap, th.gap { border-left: 1px solid var(--line); }
th.group { text-align: center; }
.swatch { display: inline-block; width: .85em; height: .85em; border-radius: 2px;
  margin-right: .5em; vertical-align: -.06em; border: 1px solid rgba(0, 0, 0, .25); }
.swatch.void { background: repeating-linear-gradient(135deg, #a8aeb6 0 3px, #70767f 3px 6px); }
.key { display: flex; flex-wrap: wrap; gap: .3em 1.1em; font-size: .8125rem; margin: .6em 0 1em; }
.ramp { display: inline-block; width: 6.5em; height: .8em; border-radius: 2px; margin: 0 .4em;
  vertical-align: -.06em; background: linear-gradient(90deg, #000004, #3b0f70, #8c2981, #de4968,
  #fe9f6d, #fcfdbf); }
.panels { display: grid; gap: 8px; grid-template-columns: repeat(4, minmax(0, 1fr));
  margin: 0 0 1.1em; align-items: start; }
.panels img { border-radius: 4px; }
figcaption { margin-top: .25em; line-height: 1.35; overflow-wrap: anywhere; }
.panels figcaption { font-size: .78rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3em 1.2em; margin: .6em 0;
  font-size: .875rem; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; font-weight: 600; }
footer { margin-top: 3em; padding-top: 1em; border-top: 1px solid var(--line);
  color: var(--muted); font-size: .8125rem; }
@media (max-width: 760px) {
  main { padding: 18px 14px 36px; }
  h1 { font-size: 1.4rem; }
  .pair { grid-template-columns: minmax(0, 1fr); }
  .panels { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 6px; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .tile b { font-size: 1.25rem; }
  .tile:first-child { grid-column: 1 / -1; }
  th, td { padding: .32em .5em; }
}
@media print { .scroll { max-height: none; overflow: visible; } .panels { break-inside: avoid; } }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="regional-al">
<link rel="icon" href="data:,">
<title>{{ title }}: active learning report</title>
<style>{{ style | safe }}</style>
</head>
<body>
<main>
<header>
<h1>{{ title }}</h1>
<div class="sub">{{ subtitle }}</div>
<pre><code>{{ two_keys }}</code></pre>
<div class="sub">{{ summary }}</div>
<div class="banner{{ '' if finished else ' open' }}">{{ state }}</div>
<div class="tiles">
{% for tile in tiles %}
<div class="tile"><span>{{ tile.name }}</span><b>{{ tile.value }}</b>
<span>{{ tile.note }}</span></div>
{% endfor %}
</div>
</header>

{% macro chart(image) %}
<figure class="chart"><img src="{{ image.uri }}" alt="{{ image.alt }}" width="{{ image.width }}"
 height="{{ image.height }}"><figcaption>{{ image.alt }}</figcaption></figure>
{% endmacro %}

<section id="curve">
<h2>What the labels bought</h2>
{% if curves %}
<div class="pair">{% for image in curves %}{{ chart(image) }}{% endfor %}</div>
{% else %}
<p class="note">No round has been evaluated yet.</p>
{% endif %}
</section>

<section id="costs">
<h2>Cost of each round</h2>
{% if rounds %}
<p class="note">Images touched, annotation visits (regions), pixels that got an answer (void
included) and clicks: a pixel or a dominant-class answer is one click, a full answer one per
connected class segment. <em>In all</em>: up to and with the round. A dash means not known.</p>
<div class="scroll"><table>
<thead>
<tr><th></th><th class="group gap" colspan="5">in all</th><th class="group gap" colspan="4">this
round</th><th class="group gap" colspan="5">result</th></tr>
<tr class="second"><th>round</th><th class="gap">images</th><th>regions</th><th>pixels</th>
<th>clicks</th><th>labelled</th><th class="gap">images</th><th>regions</th><th>pixels</th>
<th>clicks</th><th class="gap">mIoU</th><th>accuracy</th>
<th title="labelled pixels that reached the loss">labels in loss</th><th>steps</th>
<th>time</th></tr>
</thead>
<tbody>
{% for row in rounds %}
<tr><th>{{ row.round }}</th>
{% for cells in row.groups %}{% for cell in cells %}
<td{% if loop.first %} class="gap"{% endif %}>{{ cell }}</td>
{% endfor %}{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{% else %}
<p class="note">No round is complete yet.</p>
{% endif %}
</section>

{% if seconds or bought %}
<section id="stages">
<h2>Where the time went, what was labelled</h2>
<div class="pair">
{% if seconds %}{{ chart(seconds) }}{% endif %}
{% if bought %}{{ chart(bought) }}{% endif %}
</div>
</section>
{% endif %}

<section id="classes">
<h2>IoU of each class</h2>
{% if iou.rows %}
<p class="note">Per cent, by round; <em>change</em> from the first to the last evaluated round.
{% if iou.has_share %}<em>Labels</em>: share of the class among all annotated pixels, so what its
IoU was paid with.{% endif %} A dash: the class does not occur in the validation set.</p>
<div class="scroll"><table>
<thead><tr><th>class</th>{% for r in iou.rounds %}<th>{{ r }}</th>{% endfor %}
<th class="gap">change</th>{% if iou.has_share %}<th>labels</th>{% endif %}</tr></thead>
<tbody>
{% for row in iou.rows %}
<tr><th><span class="swatch" style="background:{{ row.colour }}"></span>{{ row.name }}</th>
{% for cell in row.cells %}<td style="background:{{ cell.back }};color:{{ cell.ink }}">{{
 cell.text }}</td>{% endfor %}
<td class="gap">{{ row.change }}</td>{% if iou.has_share %}<td>{{ row.share }}</td>{% endif %}</tr>
{% endfor %}
</tbody></table></div>
{% else %}
<p class="note">No round has been evaluated yet.</p>
{% endif %}
</section>

<section id="overlays">
<h2>What was asked, what is labelled</h2>
{% if overlays %}
<p class="note">A few images of each round. Score: <span>low<span class="ramp"></span>high</span>,
each picture on its own scale, light grey where nothing could be asked. Asked: in colour inside
yellow; single pixels and tiny windows are drawn larger than they are. Labelled: state after the
round, unlabeled parts dimmed.{% if left_out %} {{ left_out }}{% endif %}</p>
<div class="key">
{% for name, colour in key %}<span><span class="swatch" style="background:{{ colour }}"></span>{{
 name }}</span>{% endfor %}
<span><span class="swatch void"></span>annotated void</span>
</div>
{% for group in overlays %}
<h3>{{ group.head }}</h3>
{% for row in group.rows %}
<div class="panels">
{% for panel in row %}
<figure><img src="{{ panel.uri }}" alt="{{ panel.alt }}" width="{{ panel.width }}"
 height="{{ panel.height }}" loading="lazy"><figcaption>{{ panel.caption }}</figcaption></figure>
{% endfor %}
</div>
{% endfor %}
{% endfor %}
{% else %}
<p class="note">No previews were kept for this run.</p>
{% endif %}
</section>

<section id="config">
<h2>Configuration</h2>
<details><summary>acquisition, with every default</summary>
<dl>{% for name, value in config %}<dt><code>{{ name }}</code></dt><dd><code>{{ value }}</code></dd>
{% endfor %}</dl></details>
</section>

<footer>Written by regional-al {{ version }} from the files of the run alone;
<code>regional-al report {{ work_dir }}</code> writes it again. The charts are in
<code>figures/</code>, the numbers in <code>results.json</code>.</footer>
</main>
</body>
</html>
"""
