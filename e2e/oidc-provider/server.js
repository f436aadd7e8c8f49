// An authorization server for ../oidcprovider_test.go:
//
//     node server.js PORT ISSUER ALGORITHM…
//
// Each line on standard input is an array of private JWKs. The server publishes
// them, signs with the first one that fits, and answers "ready". It ends when
// standard input does, so no test leaves it behind.
//
// There is a client for each algorithm. What it gets is signed with that.

import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const [port, issuer, ...algorithms] = process.argv.slice(2);

const configuration = {
  clients: algorithms.map((algorithm) => ({
    client_id: algorithm,
    client_secret: 'secret',
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    id_token_signed_response_alg: algorithm, // or else a key for RS256 must be there
  })),
  scopes: ['read:messages', 'write:messages'],
  ttl: { ClientCredentials: 600 },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource, client) => ({
        audience: resource,
        scope: 'read:messages write:messages',
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: client.clientId } },
      }),
    },
  },
};

let handler;
const server = createServer((request, response) => handler(request, response));
for await (const line of createInterface({ input: process.stdin })) {
  // A Provider keeps its keys for life, so other keys need another Provider.
  handler = new Provider(issuer, { ...configuration, jwks: { keys: JSON.parse(line) } }).callback();
  if (!server.listening) {
    await new Promise((resolve, reject) => {
      server.once('error', reject).listen(port, '127.0.0.1', resolve);
    });
  }
  console.log('ready');
}
process.exit();
