// See scripts/accessibility. Exits with 1 where axe finds a violation, or a page is wider than its window.
const fs = require("fs");
const http = require("http");
const path = require("path");
const puppeteer = require("puppeteer-core");

const [chromium, pictures, ...only] = process.argv.slice(2);
const AXE = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const TYPES = { html: "text/html", css: "text/css", js: "text/javascript", svg: "image/svg+xml",
  png: "image/png", json: "application/json" };
const VIEWS = [["wide", 1400, 1000, "light"], ["narrow", 390, 844, "dark"]];

function pages(folder) {
  return fs.readdirSync(folder, { withFileTypes: true }).flatMap((one) => {
    const name = path.join(folder, one.name);
    if (one.isDirectory()) return pages(name);
    return one.name === "index.html" ? [path.relative("site", folder)] : [];
  });
}

function answer(request, response) {
  let file = path.join("site", decodeURI(request.url.split("?")[0]));
  if (file.endsWith("/")) file += "index.html";
  fs.readFile(file, (error, data) => {
    const type = TYPES[file.split(".").pop()] || "text/plain";
    response.writeHead(error ? 404 : 200, { "content-type": type });
    response.end(data);
  });
}

async function look(browser, base, page, [width, w, h, scheme]) {
  const visitor = await browser.createBrowserContext();  // a page keeps the colours that it was seen in
  const tab = await visitor.newPage();
  await tab.setViewport({ width: w, height: h });
  // Before the page is there: a change afterwards would be seen half-way.
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  const answered = await tab.goto(`${base}/${page}${page && "/"}`, { waitUntil: "load" });
  if (!answered.ok()) throw new Error(`no page ${page} in site/: was it built anew meanwhile?`);
  await tab.waitForSelector(`body[data-md-color-scheme=${scheme === "dark" ? "slate" : "default"}]`, { timeout: 5000 });
  await tab.evaluate(() => Promise.all(document.getAnimations().map((one) => one.finished.catch(() => {}))));
  if (pictures) {
    const name = `${page.replace(/\W+/g, "_") || "start"}-${width}-${scheme}.png`;
    await tab.screenshot({ path: path.join(pictures, name) });
  }
  await tab.evaluate(AXE);
  const found = await tab.evaluate(async () => (await axe.run()).violations.map((one) =>
    `${one.id} (${one.impact}, ${one.nodes.length} places): ${one.help}: ${one.nodes[0].html.slice(0, 160)}`));
  const wide = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wide > 0) found.push(`the page is ${wide} pixels wider than the window`);
  await visitor.close();
  return found.map((text) => `${page || "start"}, ${width}, ${scheme}: ${text}`);
}

const server = http.createServer(answer).listen(0, "127.0.0.1", async () => {
  if (pictures) fs.mkdirSync(pictures, { recursive: true });
  const browser = await puppeteer.launch({ executablePath: chromium, args: ["--no-sandbox"] });
  const base = `http://127.0.0.1:${server.address().port}`;
  const all = pages("site").filter((page) => !only.length || only.includes(page || "start"));
  let count = 0;
  for (const page of all)
    for (const view of VIEWS)
      for (const text of await look(browser, base, page, view)) {
        count += 1;
        console.log(text);
      }
  await browser.close();
  server.close();
  console.log(`${all.length} pages, ${VIEWS.length} views each: ${count} findings`);
  process.exitCode = count ? 1 : 0;
});
