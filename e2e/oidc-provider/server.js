// An authorization server for ../oidcprovider_test.go:
//
//     node server.js PORT ISSUER ALGORITHM…
//
// Each line on standard input is an array of private JWKs. The server publishes
// them, signs with the first one that fits, and answers "ready". It ends when
// standard input does, so no test leaves it behind.
//
// There is a client for each algorithm. What it gets is signed with that. The tokens of
// two more are bound: to a key, and to the certificate that the client says it has.
// Another, mcp, is public: its user is always alice, who agrees to everything at once.

import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const [port, issuer, ...algorithms] = process.argv.slice(2);

const client = (id, algorithm, more) => ({
  client_id: id,
  client_secret: 'secret',
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  id_token_signed_response_alg: algorithm, // or else a key for RS256 must be there
  ...more,
});

const configuration = {
  clients: [
    ...algorithms.map((algorithm) => client(algorithm, algorithm)),
    client('dpop', algorithms[0], { dpop_bound_access_tokens: true }),
    client('certificate', algorithms[0], { tls_client_certificate_bound_access_tokens: true }),
    {
      client_id: 'mcp',
      token_endpoint_auth_method: 'none',
      redirect_uris: ['http://127.0.0.1/callback'],
      id_token_signed_response_alg: algorithms[0],
    },
  ],
  interactions: { url: (ctx, interaction) => `/login/${interaction.uid}` },
  loadExistingGrant: async ({ oidc }) => {
    const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
    grant.addOIDCScope(oidc.params.scope);
    grant.addResourceScope(oidc.params.resource, oidc.params.scope);
    await grant.save();
    return grant;
  },
  scopes: ['whoami', 'read:messages', 'write:messages'],
  ttl: { ClientCredentials: 600 },
  enabledJWA: { dPoPSigningAlgValues: ['ES256', 'ES384', 'ES512', 'Ed25519', 'PS256', 'RS256'] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    dPoP: { enabled: true },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      getCertificate: (ctx) => `-----BEGIN CERTIFICATE-----\n${ctx.get('x-certificate')}\n-----END CERTIFICATE-----`,
    },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource, client) => ({
        audience: resource,
        scope: 'whoami read:messages write:messages',
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: algorithms.includes(client.clientId) ? client.clientId : algorithms[0] } },
      }),
    },
  },
};

let handler;
const server = createServer((request, response) => handler(request, response));
for await (const line of createInterface({ input: process.stdin })) {
  // A Provider keeps its keys for life, so other keys need another Provider.
  const provider = new Provider(issuer, { ...configuration, jwks: { keys: JSON.parse(line) } });
  const callback = provider.callback();
  handler = (request, response) => (request.url.startsWith('/login/')
    ? provider.interactionFinished(request, response, { login: { accountId: 'alice' } })
    : callback(request, response));
  if (!server.listening) {
    await new Promise((resolve, reject) => {
      server.once('error', reject).listen(port, '127.0.0.1', resolve);
    });
  }
  console.log('ready');
}
process.exit();
