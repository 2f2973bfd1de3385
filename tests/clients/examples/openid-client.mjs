import * as openid from 'openid-client';

const gateway = new URL(process.argv[2] ?? 'http://127.0.0.1:8080/loop'); // a route
const plain = { execute: [openid.allowInsecureRequests] }; // http, for loopback; not needed with https
const metadata = { client_name: 'Portal', redirect_uris: ['https://portal.example/cb'], scope: 'openid profile' };
const registered = await openid.dynamicClientRegistration(gateway, metadata, undefined, plain);
console.log(JSON.stringify(registered.clientMetadata()));
