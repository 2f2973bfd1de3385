"""canaille with open registration, in memory. Prints its address when it is ready."""

from wsgiref.simple_server import WSGIRequestHandler, make_server

from canaille import create_app
from joserfc.jwk import RSAKey


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


if __name__ == "__main__":
    key = RSAKey.generate_key(2048, auto_kid=True).as_dict(private=True)
    app = create_app(
        {
            "SECRET_KEY": "live",
            "CANAILLE": {"DATABASE": "memory"},
            "CANAILLE_OIDC": {"DYNAMIC_CLIENT_REGISTRATION_OPEN": True, "ACTIVE_JWKS": [key]},
        }
    )
    server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
