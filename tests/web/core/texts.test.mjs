import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const web = new URL("../../../trio_chat/web/", import.meta.url);
const languages = Object.fromEntries(await Promise.all(readdirSync(new URL("lang/", web)).map(async (file) => [file, (await import(new URL(`lang/${file}`, web))).default])));
const { en } = { en: languages["en.js"] };
const blanks = (text) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();

for (const [file, texts] of Object.entries(languages)) {
  test(`${file} has every text, with what has to be filled in`, () => {
    assert.deepEqual(Object.keys(texts).sort(), Object.keys(en).sort());
    for (const [key, text] of Object.entries(texts)) {
      assert.ok(text.trim(), key);
      // A form for one may spell the number out.
      if (!key.endsWith(".one")) assert.deepEqual(blanks(text), blanks(en[key]), key);
    }
  });
}

test("the page asks for all its modules at once", () => {
  const page = readFileSync(new URL("index.html", web), "utf8");
  for (const file of readdirSync(web, { recursive: true })) {
    const path = String(file);
    if (path.endsWith(".js")) assert.ok(page.includes(`="/static/${path}"`), path);
  }
});

test("every text that the code asks for is there, and none is left over", () => {
  const code = readdirSync(new URL("ui/", web)).map((file) => readFileSync(new URL(`ui/${file}`, web), "utf8")).join("\n");
  const used = new Set([...code.matchAll(/"([a-z]+(?:\.\w+)?)"/g)].map((match) => match[1]));
  const made = [...code.matchAll(/`([a-z]+)\.\$\{/g)].map((match) => match[1]);
  const base = (key) => key.replace(/\.(one|other)$/, "");
  for (const key of Object.keys(en)) assert.ok(used.has(base(key)) || used.has(key) || made.includes(key.split(".")[0]), `${key} is not used`);
  for (const [, key] of code.matchAll(/\bt\("([\w.]+)"/g)) assert.ok(key in en || `${key}.other` in en, `${key} is missing`);
});
