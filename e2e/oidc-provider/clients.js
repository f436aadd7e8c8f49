// Clients with bound tokens, for ../bound_test.go:
//
//     node clients.js ISSUER API AUDIENCE CERTIFICATE KEY OTHER-CERTIFICATE OTHER-KEY
//
// Each line of output is an array: what was done, the status, what the API says the
// token is bound to, and the challenge.

import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import * as dpop from 'dpop';
import * as oauth from 'oauth4webapi';

const [issuer, api, audience, ...files] = process.argv.slice(2);
const [own, other] = [files.slice(0, 2), files.slice(2)].map(([cert, key]) => ({ cert: readFileSync(cert), key: readFileSync(key) }));
const as = { issuer, token_endpoint: `${issuer}/token` };
const url = new URL(`${api}/api/ping/secure`);
const insecure = { [oauth.allowInsecureRequests]: true };

const tell = (name, status, body, challenge) => console.log(JSON.stringify([name, status, body.bound ?? '', challenge ?? '']));

// call sends a request by node:https, with a certificate if there is one.
function call(name, method, headers, certificate) {
  return new Promise((resolve, reject) => {
    request(url, { method, headers, agent: false, ...certificate }, async (response) => {
      const body = JSON.parse((await response.toArray()).join('') || '{}');
      tell(name, response.statusCode, body, response.headers['www-authenticate']);
      resolve(response);
    }).on('error', reject).end();
  });
}

async function token(clientId, options) {
  const client = { client_id: clientId };
  const parameters = new URLSearchParams({ resource: audience, scope: 'read:messages' });
  const response = await oauth.clientCredentialsGrantRequest(as, client, oauth.ClientSecretBasic('secret'), parameters, { ...insecure, ...options });
  return oauth.processClientCredentialsResponse(as, client, response);
}

// oauth4webapi, for each algorithm that it knows and Node can do.
for (const alg of ['ES256', 'ES384', 'ES512', 'Ed25519', 'PS256', 'RS256']) {
  const DPoP = oauth.DPoP({ client_id: 'dpop' }, await oauth.generateKeyPair(alg));
  const { access_token: bound, token_type: type } = await token('dpop', { DPoP });
  const ask = () => oauth.protectedResourceRequest(bound, 'GET', url, undefined, undefined, { DPoP });
  for (const round of ['first', 'second']) {
    let response;
    let challenge = '';
    try {
      response = await ask();
    } catch (error) {
      if (!oauth.isDPoPNonceError(error)) {
        throw error;
      }
      challenge = 'nonce'; // which DPoP has noted
      response = await ask();
    }
    tell(`${alg}, ${type}, ${round}`, response.status, await response.json(), challenge);
  }
  if (alg === 'ES256') {
    await call('as a bearer token', 'GET', { authorization: `Bearer ${bound}` });
  }
}

// dpop, step by step.
const keys = await dpop.generateKeyPair('ES256');
let nonce;
const tokenProof = await dpop.generateProof(keys, as.token_endpoint, 'POST');
const { access_token: bound } = await token('dpop', { headers: { dpop: tokenProof } });
const prove = (pair, method = 'GET', target = url.href) => dpop.generateProof(pair, target, method, nonce, bound);
const send = async (name, proof, method = 'GET') => {
  const response = await call(name, method, { authorization: `DPoP ${bound}`, dpop: proof });
  nonce = response.headers['dpop-nonce'] ?? nonce;
};
await send('dpop: without a nonce', await prove(keys));
const proof = await prove(keys);
await send('dpop: with the nonce', proof);
await send('dpop: the same proof', proof);
await send('dpop: for another method', await prove(keys, 'POST'));
await send('dpop: for another URL', await prove(keys, 'GET', `${api}/api/messages`));
await send('dpop: with the query', await prove(keys, 'GET', `${url.href}?a#b`));
await send("dpop: a thief's key", await prove(await dpop.generateKeyPair('ES256')));
await send('dpop: HEAD', await prove(keys, 'HEAD'), 'HEAD');

// Certificates.
const der = new X509Certificate(own.cert).raw.toString('base64');
const { access_token: toCertificate } = await token('certificate', { headers: { 'x-certificate': der } });
const bearer = { authorization: `Bearer ${toCertificate}` };
await call('certificate: its own', 'GET', bearer, own);
await call('certificate: another', 'GET', bearer, other);
await call('certificate: none', 'GET', bearer);
await call('certificate: none, in a header', 'GET', { ...bearer, 'client-cert': `:${der}:` });
