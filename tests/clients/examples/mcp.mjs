import { discoverAuthorizationServerMetadata, registerClient } from '@modelcontextprotocol/sdk/client/auth.js';

const gateway = process.argv[2] ?? 'http://127.0.0.1:8080/loop';
const metadata = await discoverAuthorizationServerMetadata(gateway);
const clientMetadata = { client_name: 'Notes', redirect_uris: ['http://127.0.0.1:8765/cb'], scope: 'openid profile' };
console.log(JSON.stringify(await registerClient(gateway, { metadata, clientMetadata })));
