"""The page of a comparison: jinja2 template. No script, nothing from the network."""

from __future__ import annotations

STYLE = """
.curves { display: grid; gap: 8px 20px; grid-template-columns: repeat(2, minmax(0, 1fr)); }
.curves .chart { max-width: none; }
.curves + .scroll { margin-top: 1.4em; }
td b { font-weight: 700; }
td small, th small { display: block; color: var(--muted); font-size: .75rem; line-height: 1.25;
  font-weight: 400; white-space: pre; }
td.text, th.text { text-align: left; }
.dash { display: inline-block; width: 1.5em; height: 0; border-top: 3px solid;
  margin-right: .5em; vertical-align: .25em; }
ul.notes { margin: 0; padding-left: 1.2em; }
details { margin: .8em 0; }
details[open] > summary { margin-bottom: .5em; }
#definitions dd { max-width: 100ch; }
@media (max-width: 760px) { .curves { grid-template-columns: minmax(0, 1fr); } }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="regional-al">
<link rel="icon" href="data:,">
<title>{{ title }}: comparison</title>
<style>{{ style | safe }}</style>
</head>
<body>
<main>
{% macro chart(image) %}
<figure class="chart"><img src="{{ image.uri }}" alt="{{ image.alt }}" width="{{ image.width }}"
 height="{{ image.height }}" style="max-width:{{ image.width }}px">
<figcaption>{{ image.alt }}</figcaption></figure>
{% endmacro %}
{% macro name(arm) %}<span class="dash" style="border-top-color:{{ arm.colour }};border-top-style:{{
 arm.dash }}"></span>{{ arm.label }}{%
 if arm.small %}<small>{{ arm.small }}</small>{% endif %}{% endmacro %}
{% macro cell(c) %}<td{% if c.back %} style="background:{{ c.back }};color:{{ c.ink }}"{% endif %}{%
 if c.title %} title="{{ c.title }}"{% endif %}>{% if c.bold %}<b>{{ c.text }}</b>{% else %}{{
 c.text }}{% endif %}{% if c.small %}<small>{{ c.small }}</small>{% endif %}</td>{% endmacro %}
{% macro table(t) %}
<div class="scroll"><table>
<thead><tr><th>{{ t.corner }}</th>{% for head in t.heads %}<th>{%
 if head is mapping %}{{ head.text }}<small>{{ head.small }}</small>{% else %}{{ head }}{%
 endif %}</th>{% endfor %}</tr>
</thead>
<tbody>{% for row in t.rows %}
<tr><th>{{ name(row.arm) if row.arm else row.name }}</th>{% for c in row.cells %}{{ cell(c) }}{%
 endfor %}</tr>{% endfor %}
</tbody></table></div>
{% endmacro %}
{% macro each(groups) %}
{% for group in groups %}
<details{{ ' open' if loop.first else '' }}><summary>{{ group.name }}</summary>
{% for part in group.parts %}
{% if part.head %}<h3>{{ part.head }}</h3>{% endif %}
{{ table(part.table) }}
{% endfor %}
</details>
{% endfor %}
{% endmacro %}
<header>
<h1>{{ title }}</h1>
<div class="sub">{{ subtitle }}</div>
<div class="banner{{ ' open' if notes else '' }}">{{ state }}{% if notes %}
<ul class="notes">{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>{% endif %}</div>
<div class="tiles">
{% for tile in tiles %}
<div class="tile"><span>{{ tile.name }}</span><b>{{ tile.value }}</b>
<span>{{ tile.note }}</span></div>
{% endfor %}
</div>
</header>

<section id="curves">
<h2>What the labels bought</h2>
{% if curves %}
<p class="note">Mean over seeds; shaded: one sample standard deviation up and down. Grey: random at
the same cost. {{ curve_note }}</p>
<div class="curves">{% for image in curves %}{{ chart(image) }}{% endfor %}</div>
{{ table(arms) }}
{% for group in apart %}
<h3>{{ group.head }}</h3>
<div class="curves">{% for image in group.curves %}{{ chart(image) }}{% endfor %}</div>
{% endfor %}
{% else %}
<p class="note">No run is finished yet.</p>
{% endif %}
</section>

{% if afresh.rows %}
<section id="afresh">
<h2>Trained afresh on these labels</h2>
<p class="note">One training on all labels that an arm has at its end, without its rounds{% if full
%}; full supervision is trained on all labels of the pool{% endif %}. Differences are of the same
seed (of means by class); bold: larger than their standard deviation over seeds.</p>
{{ table(afresh) }}
<details><summary>IoU by class</summary>
{{ table(afresh_classes) }}
</details>
</section>
{% endif %}

{% if efficiency %}
<section id="efficiency">
<h2>Label efficiency</h2>
<p class="note">Cost that random needs / cost that the arm needs for the same mIoU; above 1 the arm
is cheaper. From the mean curves; below it, over the seeds in which both reach the level. A level
that is not reached is never extrapolated; ≥ is a bound; ~ lies between two rounds whose costs
differ more than threefold, so that the interpolation decides.</p>
{% if ends.rows %}
<h3>After equal training</h3>
<p class="note">At the ends of the curves, against random arms that train as long with other
budgets: ≥ even the most labels do not do for random; ≤ the fewest do. Below: each seed. Bold: above
1 in every seed.</p>
{{ table(ends) }}
{% endif %}
{{ each(efficiency) }}
</section>
{% endif %}

{% if wins %}
<section id="wins">
<h2>Who beats whom</h2>
<p class="note">In how many of seeds &times; positions (equal cost, equal seed) the row's mIoU is
above the column's, and the mean difference in points ± its standard deviation over seeds. Bold:
the difference is larger than that deviation.</p>
{{ each(wins) }}
</section>
{% endif %}

{% if gains or heat %}
<section id="classes">
<h2>Class by class</h2>
<p class="note">IoU at the last cost that an arm shares with its random baseline: points above
random (mean over seeds, paired){% if full %}, and above full supervision{% endif %}.</p>
{% if heat %}<div class="pair">{{ chart(heat) }}</div>{% endif %}
{{ each(gains) }}
</section>
{% endif %}

<section id="training">
<h2>Training behind each point</h2>
<p class="note">Optimizer iterations that a point's weights have gone through: of the round alone
where every round starts anew, of all rounds up to it where weights are kept.</p>
{{ table(training) }}
</section>

{% if seconds %}
<section id="seconds">
<h2>Seconds of a round</h2>
<div class="pair">{{ chart(seconds) }}</div>
</section>
{% endif %}

<section id="definitions">
<h2>Definitions</h2>
<dl>{% for term, text in definitions %}<dt>{{ term }}</dt><dd>{{ text }}</dd>{% endfor %}</dl>
</section>

<section id="config">
<h2>Configuration</h2>
<dl>{% for term, text in how %}<dt>{{ term }}</dt><dd>{{ text }}</dd>{% endfor %}</dl>
{% for arm in configs %}
<details><summary>{{ arm.name }}</summary>
<dl>{% for key, value in arm.facts %}<dt><code>{{ key }}</code></dt><dd><code>{{ value
 }}</code></dd>{% endfor %}</dl></details>
{% endfor %}
</section>

<footer>Written by regional-al {{ version }} from <code>compare.json</code> alone. The same numbers,
one row a round: <code>compare.csv</code>; the charts: <code>figures/</code>.</footer>
</main>
</body>
</html>
"""

DEFINITIONS = (
    ("pixels", "pixels that got an answer, void included; the axis shows their share of the pool"),
    (
        "clicks",
        "a pixel 1; a dominant-class answer 1; a full answer 1 per connected class segment inside "
        "what was asked",
    ),
    ("annotation visits", "questions asked: images, regions, windows or pixels"),
    (
        "curve of an arm",
        "cost and mIoU averaged over seeds, round by round, for the rounds that all its finished "
        "runs have",
    ),
    ("±", "sample standard deviation over seeds (divisor n - 1); none for a single seed"),
    (
        "measured against",
        "the Random arm with the same questions (level, region, answer), or the nearest to it; an "
        "arm may name another",
    ),
    (
        "area",
        "mean mIoU over the costs that an arm shares with its baseline, without round 0, which no "
        "strategy has chosen: trapezoid area under each run's curve over log10 cost (or cost, "
        "where it spans less than a factor of ten) divided by the width; in mIoU points; none "
        "where they share one such cost or none",
    ),
    (
        "trained afresh",
        "an arm with labels_of: one training on the labels of another arm's run of the same seed, "
        "which asks nothing; above random's labels: than a training alike on the labels of that "
        "arm's baseline",
    ),
    (
        "label efficiency",
        "cost of the first point at which a curve, linear between rounds in log cost, reaches a "
        "level: random's divided by the arm's",
    ),
    (
        "label efficiency after equal training",
        "where several Random arms ask the same questions with other budgets and train as long: "
        "cost at which their last rounds, linear between them in log cost, have the mIoU of the "
        "arm's last round, divided by the arm's cost",
    ),
    (
        "positions",
        "every cost at which one of the two arms was evaluated, within the range that the rounds "
        "after round 0 of both cover (none: not compared); costs within 5 % count once; between "
        "rounds mIoU is linear in log cost",
    ),
)
