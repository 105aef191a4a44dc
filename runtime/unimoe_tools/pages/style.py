"""The style sheet of every page: screen, dark screen, phone, paper."""

STYLE = """
:root { --ink:#1c2430; --soft:#5d6978; --line:#dfe4ea; --paper:#ffffff; --ground:#f5f7f9; --bar:#3f6fb5;
  --heat:#b3541e; --warn:#fff3d6; --warn-line:#e0a526; --shade:rgba(20,30,45,.28); }
@media (prefers-color-scheme: dark) { :root { --ink:#e6eaf0; --soft:#9aa6b4; --line:#313a46; --paper:#1a2029;
  --ground:#12171e; --bar:#6d9ae0; --heat:#e08a4f; --warn:#3a2f14; --warn-line:#a97b17; --shade:rgba(0,0,0,.75); } }
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
.verdict { font-size:17px; font-weight:600; border-left:4px solid; padding:10px 16px; margin:0 0 16px;
  background:var(--paper); }
.verdict.passed { border-color:#4f9d69; } .verdict.failed { border-color:#c8503f; }
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
.band { fill:var(--line); opacity:.6; }
.steps { fill:none; stroke:var(--ink); stroke-width:1; opacity:.75; }
.outlier { fill:#c8503f; }
.cell { fill:color-mix(in srgb, var(--heat) var(--share), var(--ground)); }
/* Maps of counts keep their own size where the page is wider. */
.cell.low { stroke:#c8503f; stroke-width:2.5; }
.natural svg { width:auto; max-width:100%; }
.cell-text { font-size:11.5px; text-anchor:middle; font-variant-numeric:tabular-nums; }
.cell-text.on { fill:#fff; } .cell-text.off { fill:var(--ink); }
.maps { display:grid; grid-template-columns:1fr 1fr; gap:18px 24px; }
.maps > * { min-width:0; }
/* Shadows at the sides of what is wider than its frame: they go where its end is reached. */
.scroll { overflow-x:auto; background:
  linear-gradient(to right, var(--paper) 30%, transparent) left / 40px 100% no-repeat local,
  linear-gradient(to left, var(--paper) 30%, transparent) right / 40px 100% no-repeat local,
  linear-gradient(to right, var(--shade), transparent) left / 14px 100% no-repeat scroll,
  linear-gradient(to left, var(--shade), transparent) right / 14px 100% no-repeat scroll; }
table { border-collapse:collapse; width:100%; font-size:13px; font-variant-numeric:tabular-nums; margin-top:12px; }
th { font-weight:600; color:var(--soft); border-bottom:1px solid var(--line); }
th, td { text-align:right; padding:4px 10px; }
td { border-bottom:1px solid color-mix(in srgb, var(--line) 55%, transparent); }
th, td { white-space:nowrap; }
th { white-space:normal; vertical-align:bottom; }
th:first-child, td:first-child { text-align:left; padding-left:0; white-space:nowrap; }
td.word, th.word { text-align:left; }
td.words, th.words, .machine td { text-align:left; white-space:normal; min-width:12em; }
@media (max-width:720px) { .cards { grid-template-columns:1fr 1fr; } .maps { grid-template-columns:1fr; }
  table { font-size:12px; } th, td { padding:4px 6px; } td.words, th.words { min-width:18em; }
  main { padding:20px 12px 40px; } figure { padding:14px 12px 10px; } h1 { font-size:25px; } }
@media print {
  :root { --ink:#000; --soft:#444; --line:#ccc; --paper:#fff; --ground:#fff; --bar:#3f6fb5; --heat:#b3541e; --warn:#fff;
    --warn-line:#000; }
  @page { size:A4; margin:14mm; }
  body { font-size:10.5pt; background:#fff; -webkit-print-color-adjust:exact; print-color-adjust:exact; }
  main { max-width:none; padding:0; }
  .cards, svg, tr { break-inside:avoid; border-color:#ccc; }
  figure { border-color:#ccc; } svg { min-width:0 !important; } .scroll { overflow:visible; background:none; }
  figure { padding:10px 14px 8px; margin:10px 0; }
  figure:not(:has(tr:nth-child(16))) { break-inside:avoid; }
  figure > .scroll > svg, figure > .natural svg { max-height:46mm; }
  table { font-size:8pt; } th, td { padding:2px 6px; } td.words, th.words { min-width:0; }
  .cards strong { font-size:17pt; }
  h2, h3, .legend { break-after:avoid; } figcaption { break-before:avoid; }
}
"""
