// node register.mjs CLIENT ISSUER: registers with an unchanged client and prints what the client made of the answer.
const [client, issuer] = process.argv.slice(2);
const metadata = {
  client_name: `${client} at ${issuer.split('/').pop()}`,
  redirect_uris: ['https://client.example/callback'],
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  token_endpoint_auth_method: 'client_secret_post',
  scope: 'openid profile',
};

const register = {
  async 'openid-client'() {
    const openid = await import('openid-client');
    const options = { algorithm: 'oauth2', execute: [openid.allowInsecureRequests] };
    const configuration = await openid.dynamicClientRegistration(new URL(issuer), metadata, undefined, options);
    return configuration.clientMetadata();
  },
  async oauth4webapi() {
    const oauth = await import('oauth4webapi');
    const insecure = { [oauth.allowInsecureRequests]: true };
    const url = new URL(issuer);
    const discovered = await oauth.discoveryRequest(url, { algorithm: 'oauth2', ...insecure });
    const server = await oauth.processDiscoveryResponse(url, discovered);
    const response = await oauth.dynamicClientRegistrationRequest(server, metadata, insecure);
    return oauth.processDynamicClientRegistrationResponse(response);
  },
  async 'mcp-typescript-sdk'() {
    const auth = await import('@modelcontextprotocol/sdk/client/auth.js');
    const server = await auth.discoverAuthorizationServerMetadata(issuer);
    return auth.registerClient(issuer, { metadata: server, clientMetadata: metadata });
  },
};

console.log(JSON.stringify(await register[client]()));
