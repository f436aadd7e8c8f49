// Walks through the page as a visitor does, and fails at the first thing that
// is not as it should be. Started by run.
"use strict";

const assert = require("node:assert/strict");
const http = require("node:http");
const path = require("node:path");
const {chromium} = require("playwright-core");

const [base, executablePath, profile] = process.argv.slice(2);
const origin = new URL(base).origin;

async function walk(page) {
	const button = name => page.getByRole("button", {name, exact: true});
	const field = name => page.getByLabel(name, {exact: true});

	async function getToken({scopes, other = "", expired = false}) {
		for (const name of ["read:messages", "write:messages", "delete:messages", "admin"]) {
			await field(name).setChecked(scopes.includes(name));
		}
		await field("Other scopes").fill(other);
		await field(expired ? "expired an hour ago" : "for an hour").check();
		const before = await field("Token").inputValue();
		await button("Get token").click();
		await page.waitForFunction(before => document.getElementById("token").value !== before, before);
	}

	async function expectSent(route, status, challenge, body) {
		await button("Send " + route).click(); // which empties the row's status
		const row = page.getByRole("listitem").filter({has: button("Send " + route)});
		await row.locator(".status:not(:empty)").waitFor();
		assert.equal(await row.locator(".status").textContent(), status.slice(0, 3), route);
		assert.equal(await page.locator("#status").textContent(), status, route);
		assert.equal(await page.locator("#challenge").textContent(), challenge, route);
		assert.match(await page.locator("#body").textContent(), body, route);
		assert.ok((await page.locator("#request").textContent()).startsWith(route), route);
		console.log(`ok  ${route}: ${status}, ${challenge}`);
	}

	const json = async id => JSON.parse(await page.locator(id).textContent());
	const invalid = 'Bearer error="invalid_token"';

	// Without a token.
	assert.ok(await page.getByText("Nothing has been sent yet.").isVisible());
	assert.ok(!await page.locator("#body").isVisible(), "there is no answer yet");
	await expectSent("GET /api/ping", "200 OK", "(none)", /pong/);
	await expectSent("GET /api/ping/secure", "401 Unauthorized", "Bearer", /error_description/);
	await expectSent("GET /api/messages", "401 Unauthorized", 'Bearer scope="read:messages"', /error_description/);
	assert.ok(await field("Send the token").isDisabled(), "there is no token to send");

	// By the keyboard alone.
	await field("read:messages").focus();
	assert.ok(await field("read:messages").isChecked(), "read:messages is chosen from the start");
	for (let i = 0; i < 6; i++) {
		await page.keyboard.press("Tab");
	}
	assert.equal(await page.evaluate(() => document.activeElement.textContent), "Get token");
	await page.keyboard.press("Enter");
	await page.locator("#note", {hasText: "As the issuer signed it."}).waitFor();
	assert.equal((await json("#header")).typ, "at+jwt");
	assert.equal((await json("#payload")).scope, "read:messages");
	assert.match(await page.locator("#times").textContent(), /^Expires .*, in 60 minutes\.$/);

	// One scope, and not the other.
	await expectSent("GET /api/ping/secure", "200 OK", "(none)", /"read:messages"/);
	await expectSent("GET /api/messages", "200 OK", "(none)", /here are your messages/);
	await expectSent("POST /api/messages", "403 Forbidden",
		'Bearer error="insufficient_scope", scope="read:messages write:messages"', /insufficient_scope/);
	await expectSent("DELETE /api/messages", "403 Forbidden",
		'Bearer error="insufficient_scope", scope="delete:messages"', /insufficient_scope/);
	await field("Send the token").uncheck();
	await expectSent("GET /api/messages", "401 Unauthorized", 'Bearer scope="read:messages"', /error_description/);
	assert.match(await page.locator("#request").textContent(), /without a token/);
	await field("Send the token").check();
	await expectSent("GET /api/messages", "200 OK", "(none)", /here are your messages/);

	// Tampering.
	await button("Tamper with payload").click();
	assert.equal((await json("#payload")).scope, "read:messages admin");
	assert.equal(await page.locator("#payload-tag").textContent(), "changed");
	assert.equal(await page.locator("#signature-tag").textContent(), "");
	await expectSent("DELETE /api/messages", "401 Unauthorized", invalid, /invalid_token/);
	await getToken({scopes: ["read:messages"]});
	assert.equal(await page.locator("#payload-tag").textContent(), "");
	await button("Tamper with signature").click();
	assert.equal(await page.locator("#signature-tag").textContent(), "changed");
	await expectSent("GET /api/messages", "401 Unauthorized", invalid, /invalid_token/);
	await button("Tamper with signature").click();
	await expectSent("GET /api/messages", "401 Unauthorized", invalid, /invalid_token/);

	// Expired.
	await getToken({scopes: ["read:messages"], expired: true});
	assert.match(await page.locator("#times").textContent(), /^Expired .*, 60 minutes ago\.$/);
	await expectSent("GET /api/messages", "401 Unauthorized", invalid, /expired/);

	// All scopes, and some of one's own.
	await getToken({scopes: ["read:messages", "write:messages", "admin"], other: " mine  read:messages "});
	assert.equal((await json("#payload")).scope, "read:messages write:messages admin mine");
	await expectSent("POST /api/messages", "201 Created", "(none)", /message written/);
	await expectSent("DELETE /api/messages", "200 OK", "(none)", /messages deleted/);
	await getToken({scopes: []});
	assert.equal((await json("#payload")).scope, undefined);
	await expectSent("GET /api/ping/secure", "200 OK", "(none)", /"scope": \[\]/);

	// What is no token.
	await field("Other scopes").fill('"');
	await button("Get token").click();
	await page.getByRole("alert").filter({hasText: "400 invalid_scope"}).waitFor();
	await field("Token").fill("nonsense");
	assert.ok(await button("Tamper with signature").isDisabled(), "there is no signature");
	await expectSent("GET /api/messages", "401 Unauthorized", invalid, /invalid_token/);
	await field("Token").fill("<b>.<i>.☃");
	await button("Send GET /api/messages").click();
	await page.locator("#status", {hasText: "no answer"}).waitFor();
	await field("Token").fill("");
	assert.ok(await field("Send the token").isDisabled(), "there is no token to send any more");
}

// What the issuer does, and what the server tells of it and of each request.
async function walkKeys(page) {
	const button = name => page.getByRole("button", {name, exact: true});
	const told = async (id, pattern) => {
		await page.waitForFunction(([id, pattern]) => new RegExp(pattern).test(document.getElementById(id).innerText), [id, pattern.source]);
	};
	async function getToken() {
		const before = await page.locator("#token").inputValue();
		await button("Get token").click();
		await page.waitForFunction(before => document.getElementById("token").value !== before, before);
		return page.locator("#token").inputValue();
	}
	async function expectVerdict(route, status, verdict) {
		await button("Send " + route).click();
		const row = page.getByRole("listitem").filter({has: button("Send " + route)});
		await row.locator(".status", {hasText: String(status)}).waitFor();
		await told("verdict", verdict);
		console.log(`ok  ${route}: ${status}, ${await page.locator("#verdict").textContent()}`);
	}
	await page.goto(base);
	await told("publishes", /key-1 \(signs\)/);
	const first = await getToken();

	// Why, in view at once.
	await expectVerdict("GET /api/messages", 200, /^let in/);
	await expectVerdict("POST /api/messages", 403, /^refused: insufficient_scope$/);
	await told("reasons", /expected\s+read:messages write:messages\s+came\s+read:messages/);
	await told("checks", /pass +signature[^]*FAIL +the route's own rule/);
	const bottom = await page.evaluate(() => {
		scrollTo(0, 0);
		return document.getElementById("exchange").getBoundingClientRect().bottom;
	});
	assert.ok(bottom <= 900, `the answer ends at ${bottom}, below what is seen of the page`);
	await expectVerdict("GET /api/ping", 200, /^public/);
	await told("checks", /^$/);

	// A rotation refuses nobody.
	await button("Rotate").click();
	await told("publishes", /^key-1, key-2 \(signs\)$/);
	await told("switched", /still publishes the old ones/);
	await expectVerdict("GET /api/messages", 200, /^let in/);
	const second = await getToken();
	await expectVerdict("GET /api/messages", 200, /^let in/);
	await told("at-hand", /^key-1, key-2, /);

	// A withdrawal refuses the old tokens, once the API knows.
	await button("Withdraw").click();
	await told("publishes", /^key-3 \(signs\)$/);
	const third = await getToken();
	await expectVerdict("GET /api/messages", 200, /^let in/);
	await told("at-hand", /^key-3, /);
	await page.locator("#token").fill(first);
	await expectVerdict("GET /api/messages", 401, /^refused: unknown_key$/);
	await told("reasons", /came\s+key-1/);
	await told("seen", /^\d+ +GET \/api\/messages\s+401 unknown_key/);

	// While it is down, what is known goes on, and what is not cannot be known.
	await button("Down").focus();
	await page.keyboard.press("Enter");
	await page.locator("[aria-pressed=true]", {hasText: "Down"}).waitFor();
	await button("Announce").click();
	await told("publishes", /^down: key-3 \(signs\), and the next one$/);
	await button("Rotate").click();
	await getToken();
	await expectVerdict("GET /api/messages", 503, /^refused: keys_unavailable$/);
	await told("refresh", /^failed/);
	await page.locator("#token").fill(third);
	await expectVerdict("GET /api/messages", 200, /^let in/);
	await button("Down").click();
	await page.locator("[aria-pressed=false]", {hasText: "Down"}).waitFor();
	await getToken();
	for (let status = "503"; status === "503";) { // until the pause after the failure is over
		const answered = page.waitForResponse(r => r.url().endsWith("/api/messages"));
		await button("Send GET /api/messages").click();
		status = String((await answered).status());
		if (status === "503") {
			await page.waitForTimeout(300);
		}
	}
	await told("verdict", /^let in/);
	await told("at-hand", /^key-3, key-4, /);
	for (const name of ["Hang", "Garbage"]) {
		await button(name).click();
		await told("publishes", new RegExp(name === "Hang" ? "^hanging: " : "^garbage, not "));
		await button(name).click();
		await told("publishes", /^key-3, key-4 \(signs\)$/);
	}
	assert.notEqual(first, second);
}

// A token that is bound to the browser's key, its owner and its thieves. The server
// wants nonces.
async function walkBound(page) {
	const button = name => page.getByRole("button", {name, exact: true});
	async function expectSent(name, status, challenge, request) {
		const row = page.getByRole("listitem").filter({has: button(name)});
		await button(name).click();
		await page.waitForFunction(([name, status]) => {
			const row = [...document.querySelectorAll("#bound li")].find(li => li.querySelector("button").ariaLabel === name);
			return row.querySelector(".status").textContent === status.slice(0, 3) && document.getElementById("status").textContent === status;
		}, [name, status]);
		assert.match(await page.locator("#challenge").textContent(), challenge, name);
		assert.match(await page.locator("#request").textContent(), request, name);
		console.log(`ok  ${name}: ${status}, ${await page.locator("#challenge").textContent()}`);
	}
	assert.ok(!await page.locator("#unbound").isVisible(), "proofs are accepted");
	const proof = /\nAuthorization: DPoP .*\nDPoP: /;
	await expectSent("Send as the owner", "200 OK", /^\(none\)$/, proof);
	await expectSent("Send the stolen token alone", "401 Unauthorized", /^Bearer error="invalid_token", DPoP algs="/, /\nAuthorization: Bearer /);
	await expectSent("Send the stolen proof again", "401 Unauthorized", /^DPoP error="invalid_dpop_proof"/, proof);
	assert.match(await page.locator("#body").textContent(), /used before/);
	await expectSent("Send a stolen proof elsewhere", "401 Unauthorized", /^DPoP error="invalid_dpop_proof"/, proof);
	assert.match(await page.locator("#body").textContent(), /another method/);
	await expectSent("Send a proof by another key", "401 Unauthorized", /^DPoP error="invalid_token"/, proof);
	await expectSent("Send as the owner", "200 OK", /^\(none\)$/, proof);
	assert.equal(await page.evaluate(() => crypto.subtle.exportKey("jwk", owner.key.pair.privateKey).then(() => "exported", e => e.name)),
		"InvalidAccessError", "the key cannot be taken away");
}

// Another server on this machine gets no token through the visitor's browser.
async function foreignPage(page) {
	const other = http.createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end("<p>"));
	await new Promise(listening => other.listen(0, "127.0.0.1", listening));
	try {
		await page.goto(`http://127.0.0.1:${other.address().port}/`);
		const answered = page.waitForResponse(r => r.url() === origin + "/token");
		await page.evaluate(url => fetch(url, {method: "POST", mode: "no-cors", body: new URLSearchParams({scope: "admin"})}), origin + "/token");
		assert.equal((await answered).status(), 403, "a token for a page of another origin");
		console.log("ok  POST /token from another origin: 403");
	} finally {
		other.close();
	}
}

async function pictures(page, folder) {
	for (const [name, colorScheme, width, height] of [
		["light", "light", 1280, 900], ["dark", "dark", 1280, 900], ["middle", "light", 820, 1100], ["narrow", "dark", 390, 844], ["empty", "light", 1280, 900],
	]) {
		await page.emulateMedia({colorScheme});
		await page.setViewportSize({width, height});
		await page.goto(base);
		if (name !== "empty") {
			await page.getByRole("button", {name: "Get token"}).click();
			await page.locator("#note", {hasText: "As the issuer"}).waitFor();
			if (name === "dark") {
				await page.getByRole("button", {name: "Tamper with payload"}).click();
			}
			for (const route of ["GET /api/ping", "GET /api/messages", "POST /api/messages"]) {
				await page.getByRole("button", {name: "Send " + route, exact: true}).click();
				await page.waitForTimeout(200);
			}
		}
		assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name}: it scrolls sideways`);
		await page.screenshot({path: path.join(folder, name + ".png"), fullPage: true});
	}
	// docs/page.png: what is not known while the issuer is down gets 503.
	await page.emulateMedia({colorScheme: "light"});
	await page.setViewportSize({width: 1280, height: 900});
	await page.goto(base);
	for (const name of ["Get token", "Send GET /api/messages", "Send POST /api/messages", "Rotate", "Down", "Get token", "Send GET /api/messages"]) {
		await page.getByRole("button", {name, exact: true}).click();
		await page.waitForTimeout(300);
	}
	await page.screenshot({path: path.join(folder, "page.png"), clip: {x: 40, y: 0, width: 1200, height: 750}});
	await page.getByRole("button", {name: "Down", exact: true}).click();
}

async function main() {
	const context = await chromium.launchPersistentContext(profile, {
		executablePath,
		headless: true,
		args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
			"--disable-background-networking", "--disable-component-update", "--disable-sync"],
	});
	try {
		context.setDefaultTimeout(10000);
		const page = await context.newPage();
		const wrong = [];
		page.on("request", r => new URL(r.url()).origin === origin || r.url().startsWith("data:") || wrong.push("a request to " + r.url()));
		page.on("pageerror", error => wrong.push(String(error)));
		page.on("console", message => {
			// Browsers log each status above 399, and those are wanted here.
			if (["error", "warning"].includes(message.type()) && !/status of (40[0-9]|503)/.test(message.text())) {
				wrong.push(message.text());
			}
		});
		const response = await page.goto(base);
		assert.equal(response.status(), 200);
		if (await page.locator("#dpop").isVisible()) {
			await walkBound(page);
		} else {
			await page.setViewportSize({width: 1280, height: 900});
			await walkKeys(page);
			await page.goto(base);
			await walk(page);
		}
		if (process.env.SCREENSHOTS) {
			await pictures(page, process.env.SCREENSHOTS);
		}
		assert.deepEqual(wrong, [], "on the page");
		await foreignPage(await context.newPage());
	} finally {
		await context.close();
	}
	console.log("the page does what it should");
}

setTimeout(() => {
	console.error("the walk takes more than five minutes");
	process.exit(1);
}, 300000).unref();

main().catch(error => {
	console.error(error);
	process.exitCode = 1;
});
