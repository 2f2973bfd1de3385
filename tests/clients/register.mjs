// node register.mjs register|sign-in CLIENT ISSUER RESOURCE [ID SECRET]: an unchanged client registers at the
// authorization server (or is told its ID and SECRET), signs in if it is to, and prints what it has. CLIENT is one of
// those below; an MCP client starts from RESOURCE, an MCP server whose authorization server is ISSUER. SCOPE in the
// environment: what to ask for instead of `openid profile`; TOKEN: an initial access token, for the clients that can send one.
const { SCOPE = 'openid profile', TOKEN } = process.env;
const [task, client, issuer, resource, client_id, client_secret] = process.argv.slice(2);
const callback = 'https://client.example/callback';
const metadata = {
  client_name: client,
  redirect_uris: [callback],
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  token_endpoint_auth_method: 'client_secret_post',
  scope: SCOPE,
};

/** What the user's browser does: it goes where it is sent, and comes back. */
async function browse(url) {
  const answer = await fetch(url, { redirect: 'manual' });
  return new URL(answer.headers.get('location'));
}

async function mcp({ auth }) {
  const store = { client: client_id && { client_id, client_secret } };
  const provider = {
    redirectUrl: callback,
    clientMetadata: metadata,
    clientInformation: () => store.client,
    saveClientInformation: (information) => { store.client = information; },
    tokens: () => store.tokens,
    saveTokens: (tokens) => { store.tokens = tokens; },
    state: () => 'a-state',
    codeVerifier: () => store.verifier,
    saveCodeVerifier: (verifier) => { store.verifier = verifier; },
    discoveryState: () => store.discovered,
    saveDiscoveryState: (discovered) => { store.discovered = discovered; },
    redirectToAuthorization: (url) => { store.url = url; },
  };
  await auth(provider, { serverUrl: resource });
  const has = () => ({ ...store.client, authorization_url: store.url.href });
  if (task === 'register') return has();
  const back = (await browse(store.url)).searchParams;
  // version 1 does not look at `iss`
  await auth(provider, { serverUrl: resource, authorizationCode: back.get('code'), iss: back.get('iss') ?? undefined });
  const welcome = await fetch(resource, { headers: { authorization: `Bearer ${store.tokens.access_token}` } });
  if (!welcome.ok) throw new Error(`the MCP server said ${welcome.status}`);
  return { ...has(), access_token: store.tokens.access_token };
}

const run = {
  async 'openid-client'() {
    const openid = await import('openid-client');
    // oauth2: /.well-known/oauth-authorization-server; the default is /.well-known/openid-configuration
    const options = { algorithm: 'oauth2', execute: [openid.allowInsecureRequests] };
    const server = new URL(issuer);
    const configuration = client_id
      ? await openid.discovery(server, client_id, client_secret, undefined, options)
      : await openid.dynamicClientRegistration(server, metadata, undefined, { ...options, initialAccessToken: TOKEN });
    const has = configuration.clientMetadata();
    if (task === 'register') return has;
    const pkceCodeVerifier = openid.randomPKCECodeVerifier();
    const code_challenge = await openid.calculatePKCECodeChallenge(pkceCodeVerifier);
    const expectedState = openid.randomState();
    const url = openid.buildAuthorizationUrl(configuration, {
      redirect_uri: callback, scope: metadata.scope, code_challenge, code_challenge_method: 'S256', state: expectedState,
    });
    const tokens = await openid.authorizationCodeGrant(configuration, await browse(url), { pkceCodeVerifier, expectedState });
    return { ...has, subject: tokens.claims()?.sub, access_token: tokens.access_token };
  },

  async oauth4webapi() {
    const oauth = await import('oauth4webapi');
    const insecure = { [oauth.allowInsecureRequests]: true };
    const url = new URL(issuer);
    const discovered = await oauth.discoveryRequest(url, { algorithm: 'oauth2', ...insecure });
    const server = await oauth.processDiscoveryResponse(url, discovered);
    const response = await oauth.dynamicClientRegistrationRequest(server, metadata, { ...insecure, initialAccessToken: TOKEN });
    return oauth.processDynamicClientRegistrationResponse(response);
  },

  // version 1, and version 2 under its new name
  'mcp-typescript-sdk': async () => mcp(await import('@modelcontextprotocol/sdk/client/auth.js')),
  'mcp-typescript-client': async () => mcp(await import('@modelcontextprotocol/client')),
};

console.log(JSON.stringify(await run[client]()));
