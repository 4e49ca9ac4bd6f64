// Paper is white: a page that is dark is printed in the colours of its light form.
const root = document.documentElement.dataset;
let shown;
addEventListener("beforeprint", () => { shown = root.theme; root.theme = "light"; });
addEventListener("afterprint", () => { root.theme = shown; });
