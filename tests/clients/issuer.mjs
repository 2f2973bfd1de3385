// node issuer.mjs '{"origin": ..., "members": {...}}': the authorization server of a simulated vendor, for the wirings of
// docs/clients.md, and an MCP server that is protected by whichever authorization server its path names. It prints its
// address. `origin`: what the world calls it, if something stands in front; `members`: more of its discovery document.
import { createHash, createSign, generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';

const { origin: given, members = {} } = JSON.parse(process.argv[2] ?? '{}');
const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const codes = new Map();
const tokens = new Set();
const seen = [];
let origin = given;

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

function idToken(client, nonce) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: origin, aud: client, sub: 'someone', iat: now, exp: now + 300, nonce };
  const head = `${encoded({ alg: 'RS256', typ: 'JWT', kid: '1' })}.${encoded(claims)}`;
  return `${head}.${createSign('RSA-SHA256').update(head).sign(privateKey, 'base64url')}`;
}

/** Nobody has to log in: whoever asks gets a code. */
function authorize(query) {
  for (const name of ['client_id', 'redirect_uri', 'state', 'code_challenge']) {
    if (!query.get(name)) return [400, { error: 'invalid_request', error_description: `there is no ${name}` }];
  }
  const code = randomUUID();
  codes.set(code, query);
  const back = new URL(query.get('redirect_uri'));
  back.searchParams.set('code', code);
  back.searchParams.set('state', query.get('state'));
  if (members.authorization_response_iss_parameter_supported) back.searchParams.set('iss', origin);
  return [302, {}, { location: back.href }];
}

function token(authorization, form) {
  const [scheme, credentials] = (authorization ?? '').split(' ');
  const basic = scheme === 'Basic' ? Buffer.from(credentials, 'base64').toString().split(':').map(decodeURIComponent) : [];
  const client = basic[0] ?? form.get('client_id');
  const asked = codes.get(form.get('code'));
  codes.delete(form.get('code'));
  const challenge = createHash('sha256').update(form.get('code_verifier') ?? '').digest('base64url');
  const granted = asked?.get('client_id') === client && asked.get('redirect_uri') === form.get('redirect_uri');
  if (!granted || asked.get('code_challenge') !== challenge) return [400, { error: 'invalid_grant' }];
  seen.push({ client_id: client, client_secret: basic[1] ?? form.get('client_secret') });
  const access_token = `at-${randomUUID()}`;
  tokens.add(access_token);
  const scopes = asked.get('scope')?.split(' ') ?? [];
  const more = scopes.includes('openid') ? { id_token: idToken(client, asked.get('nonce') ?? undefined) } : {};
  return [200, { access_token, token_type: 'bearer', expires_in: 300, ...more }];
}

function answer(method, url, authorization, form) {
  const resource = /^(\/\.well-known\/oauth-protected-resource)?(\/for\/([\w-]+))$/.exec(url.pathname);
  if (resource?.[1]) {
    const server = Buffer.from(resource[3], 'base64url').toString();
    return [200, { resource: `${origin}${resource[2]}`, authorization_servers: [server], scopes_supported: ['openid', 'profile'] }];
  }
  if (resource) {
    if (tokens.has(authorization?.replace('Bearer ', ''))) return [200, { welcome: true }];
    const document = `${origin}/.well-known/oauth-protected-resource${resource[2]}`;
    return [401, {}, { 'www-authenticate': `Bearer resource_metadata="${document}", scope="openid profile"` }];
  }
  switch (`${method} ${url.pathname}`) {
    case 'GET /.well-known/openid-configuration':
    case 'GET /.well-known/oauth-authorization-server':
      return [200, {
        issuer: origin,
        authorization_endpoint: `${origin}/authorize`,
        token_endpoint: `${origin}/token`,
        jwks_uri: `${origin}/jwks`,
        response_types_supported: ['code'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['RS256'],
        token_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post', 'none'],
        code_challenge_methods_supported: ['S256'],
        ...members,
      }];
    case 'GET /jwks':
      return [200, { keys: [{ ...publicKey.export({ format: 'jwk' }), kid: '1', alg: 'RS256', use: 'sig' }] }];
    case 'GET /authorize':
      return authorize(url.searchParams);
    case 'POST /token':
      return token(authorization, form);
    case 'GET /seen':
      return [200, seen];
    default:
      return [404, {}];
  }
}

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const form = new URLSearchParams(Buffer.concat(chunks).toString());
  const url = new URL(request.url, origin);
  const [status, body, headers] = answer(request.method, url, request.headers.authorization, form);
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
});
server.listen(0, '127.0.0.1', () => {
  const address = `http://127.0.0.1:${server.address().port}`;
  origin ??= address;
  console.log(address);
});
