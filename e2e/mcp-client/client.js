// An MCP client for ../mcp_test.go, with nothing of its own but a user who logs in:
//
//     node client.js ENDPOINT REDIRECT
//
// It calls the tools whoami and list, logs in whenever the SDK says so, and prints
// what the tools said and what the user was asked for, as one line of JSON.

import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const [endpoint, redirect] = process.argv.slice(2);

let tokens, verifier, authorizationURL;
const provider = {
  redirectUrl: redirect,
  clientMetadata: { client_name: 'test', redirect_uris: [redirect] },
  clientInformation: () => ({ client_id: 'mcp' }),
  tokens: () => tokens,
  saveTokens: (t) => { tokens = t; },
  codeVerifier: () => verifier,
  saveCodeVerifier: (v) => { verifier = v; },
  redirectToAuthorization: (url) => { authorizationURL = url; },
};

const asked = [];
const jar = new Map();

// login is the user with a browser. It returns the code for the client.
async function login() {
  asked.push({
    scope: authorizationURL.searchParams.get('scope'),
    resource: authorizationURL.searchParams.get('resource'),
  });
  let url = authorizationURL;
  for (let step = 0; step < 10; step += 1) {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
    const response = await fetch(url, { redirect: 'manual', headers: { cookie } });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      jar.set(name, value);
    }
    const location = response.headers.get('location');
    if (!location) throw new Error(`${url}: ${response.status} ${await response.text()}`);
    url = new URL(location, url);
    if (url.href.startsWith(redirect)) {
      const code = url.searchParams.get('code');
      if (!code) throw new Error(url.href);
      return code;
    }
  }
  throw new Error('too many redirects');
}

// withLogin does f, and once more after a login if it is for want of one.
async function withLogin(f) {
  let transport = new StreamableHTTPClientTransport(new URL(endpoint), { authProvider: provider });
  try {
    return await f(transport);
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    await transport.finishAuth(await login());
    transport = new StreamableHTTPClientTransport(new URL(endpoint), { authProvider: provider });
    return await f(transport);
  }
}

const call = (name) => withLogin(async (transport) => {
  const client = new Client({ name: 'test', version: '1' });
  await client.connect(transport);
  const result = await client.callTool({ name });
  await client.close();
  return result.content[0].text;
});

console.log(JSON.stringify({ whoami: await call('whoami'), list: await call('list'), asked }));
process.exit(); // a standing stream must not keep it
