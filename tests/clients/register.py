"""python register.py register|sign-in CLIENT ISSUER RESOURCE [ID SECRET], as register.mjs, with the MCP Python SDK: all
that it is given is the address of the MCP server; discovery, registration and the sign-in are the SDK's."""

import asyncio
import json
import logging
import sys
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata

CALLBACK = "https://client.example/callback"


class Registered(Exception):
    """Ends the flow when the user would be sent to the vendor."""


class Storage:
    """What the application keeps."""

    def __init__(self, client):
        self.client, self.tokens = client, None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info


async def main(task, client, issuer, resource, client_id=None, client_secret=None):
    known = None
    if client_id:
        known = OAuthClientInformationFull(
            client_id=client_id,
            client_secret=client_secret,
            redirect_uris=[CALLBACK],
            token_endpoint_auth_method="client_secret_post" if client_secret else "none",
        )
    storage = Storage(known)
    at = {}

    async def send_the_user(url):
        at["authorization_url"] = url
        if task == "register":
            raise Registered

    async def receive_the_user():
        # what the user's browser does: it goes where it is sent, and comes back
        async with httpx2.AsyncClient() as browser:
            answer = await browser.get(at["authorization_url"], follow_redirects=False)
        back = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}
        return AuthorizationCodeResult(code=back["code"], state=back.get("state"), iss=back.get("iss"))

    provider = OAuthClientProvider(
        server_url=resource,
        client_metadata=OAuthClientMetadata(
            client_name=client,
            redirect_uris=[CALLBACK],
            grant_types=["authorization_code", "refresh_token"],
            token_endpoint_auth_method="client_secret_post",
            application_type="web",
        ),
        storage=storage,
        redirect_handler=send_the_user,
        callback_handler=receive_the_user,
    )
    # the reason of a failure is in the exception, once
    logging.disable(logging.CRITICAL)
    async with httpx2.AsyncClient(auth=provider) as http:
        try:
            (await http.get(resource)).raise_for_status()
        except Registered:
            pass
    has = storage.client.model_dump(mode="json", exclude_none=True) | at
    if storage.tokens:
        has["access_token"] = storage.tokens.access_token
    print(json.dumps(has))


try:
    asyncio.run(main(*sys.argv[1:]))
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
