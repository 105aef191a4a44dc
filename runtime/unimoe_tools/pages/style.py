"""The style sheet of the profile's page: screen, dark screen, paper."""

STYLE = """
:root { --ink:#1c2430; --soft:#5d6978; --line:#dfe4ea; --paper:#ffffff; --ground:#f5f7f9; --bar:#3f6fb5;
  --heat:#b3541e; --warn:#fff3d6; --warn-line:#e0a526; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6eaf0; --soft:#9aa6b4; --line:#313a46; --paper:#1a2029;
  --ground:#12171e; --bar:#6d9ae0; --heat:#e08a4f; --warn:#3a2f14; --warn-line:#a97b17; } }
* { box-sizing:border-box; }
body { margin:0; background:var(--ground); color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif; }
main { max-width:980px; margin:0 auto; padding:36px 24px 60px; }
h1 { font-size:30px; margin:0 0 4px; letter-spacing:-.02em; }
h2 { font-size:20px; margin:34px 0 14px; letter-spacing:-.01em; }
h3 { font-size:16px; margin:0 0 10px; }
h4 { font-size:13px; font-weight:600; color:var(--soft); margin:0 0 6px; }
.lead { color:var(--soft); margin:0 0 22px; }
.cards { display:grid; grid-template-columns:repeat(3,1fr); gap:12px; margin:0 0 16px; }
.cards div { background:var(--paper); border:1px solid var(--line); border-radius:10px; padding:12px 16px; }
.cards h3 { font-size:12.5px; font-weight:600; color:var(--soft); margin:0; }
.cards strong { font-size:26px; font-weight:650; letter-spacing:-.02em; font-variant-numeric:tabular-nums; }
.cards p { font-size:12.5px; line-height:1.4; color:var(--soft); margin:2px 0 0; }
.warning, .remark { border-left:3px solid var(--line); background:var(--paper); padding:8px 14px; margin:0 0 8px;
  font-size:13.5px; }
.warning { background:var(--warn); border-color:var(--warn-line); font-weight:600; }
figure { background:var(--paper); border:1px solid var(--line); border-radius:10px; padding:18px 20px 14px;
  margin:16px 0; }
figcaption { color:var(--soft); font-size:12.5px; margin-top:10px; }
svg { display:block; width:100%; height:auto; }
.legend { display:flex; flex-wrap:wrap; gap:4px 16px; margin:0 0 8px; font-size:12.5px; color:var(--soft); }
.legend span { white-space:nowrap; }
.legend i { display:inline-block; width:11px; height:11px; border-radius:3px; margin-right:6px; vertical-align:-1px; }
.tick { font-size:11.5px; fill:var(--soft); font-variant-numeric:tabular-nums; }
.note { font-size:11.5px; fill:var(--ink); font-weight:600; paint-order:stroke; stroke:var(--paper); stroke-width:4px;
  stroke-linejoin:round; }
.end { text-anchor:end; } .middle { text-anchor:middle; }
.on-bar { font-size:13px; font-weight:650; fill:#fff; text-anchor:middle; }
.grid { stroke:var(--line); stroke-width:1; }
.rule { stroke:var(--ink); stroke-width:1; stroke-dasharray:4 3; opacity:.7; }
.bar { fill:var(--bar); }
.steps { fill:none; stroke:var(--ink); stroke-width:1; opacity:.75; }
.outlier { fill:#c8503f; }
.cell { fill:color-mix(in srgb, var(--heat) var(--share), var(--ground)); }
.cell-text { font-size:10.5px; text-anchor:middle; font-variant-numeric:tabular-nums; }
.cell-text.on { fill:#fff; } .cell-text.off { fill:var(--ink); }
.maps { display:grid; grid-template-columns:1fr 1fr; gap:18px 24px; }
.scroll { overflow-x:auto; }
table { border-collapse:collapse; width:100%; font-size:13px; font-variant-numeric:tabular-nums; margin-top:12px; }
th { font-weight:600; color:var(--soft); border-bottom:1px solid var(--line); }
th, td { text-align:right; padding:4px 10px; }
td { border-bottom:1px solid color-mix(in srgb, var(--line) 55%, transparent); }
th:first-child, td:first-child { text-align:left; padding-left:0; white-space:nowrap; }
.machine td { text-align:left; }
@media (max-width:720px) { .cards { grid-template-columns:1fr 1fr; } .maps { grid-template-columns:1fr; } }
@media print {
  :root { --ink:#000; --soft:#444; --line:#ccc; --paper:#fff; --ground:#fff; --bar:#3f6fb5; --heat:#b3541e; --warn:#fff;
    --warn-line:#000; }
  @page { size:A4; margin:14mm; }
  body { font-size:10.5pt; background:#fff; -webkit-print-color-adjust:exact; print-color-adjust:exact; }
  main { max-width:none; padding:0; }
  figure, .cards { break-inside:avoid; border-color:#ccc; }
  figure { padding:10px 14px 8px; margin:10px 0; }
  .cards strong { font-size:17pt; }
  .run + .run { break-before:page; }
  h2, h3 { break-after:avoid; }
}
"""
