// oidc-provider with registration by an initial access token, and a new registration access token with every update.
// Prints its address when it is ready.
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    scopes: ['openid', 'offline_access', 'profile', 'wallet_view', 'trade_view'],
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'none'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      backchannelLogout: { enabled: true },
      registration: { enabled: true, initialAccessToken: 'live-initial-access-token' },
      registrationManagement: { enabled: true, rotateRegistrationAccessToken: true },
    },
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
