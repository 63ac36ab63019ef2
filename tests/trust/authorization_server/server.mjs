// oidc-provider on loopback, for tests: `node server.mjs '{"scopes": [...], "redirect": "...", "idp": {...}}'`.
// It says {"issuer": ...} on a line of its own and serves until its input ends. Everybody who asks is "ada", and
// agrees to everything: what is tested is the resource server and the client, not a login page.
import { createServer } from "node:http";
import { createLocalJWKSet, exportJWK, generateKeyPair, jwtVerify } from "jose";
import Provider, { errors } from "oidc-provider";

const asked = JSON.parse(process.argv[2]);
const { privateKey } = await generateKeyPair("ES256", { extractable: true });
const jwk = { ...(await exportJWK(privateKey)), alg: "ES256", use: "sig", kid: "one" };
const JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer";

let provider;
const server = createServer((request, response) => handle(request, response));
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  provider = new Provider(issuer, configuration(issuer));
  provider.on("server_error", (_, error) => console.error(error));
  provider.registerGrantType(JWT_BEARER, identityAssertion(issuer), ["assertion", "resource", "scope"], []);
  console.log(JSON.stringify({ issuer }));
});
process.stdin.resume().on("end", () => process.exit(0));

function resourceServer(resource) {
  if (!asked.resources.includes(resource)) throw new errors.InvalidTarget();
  return {
    scope: asked.scopes.join(" "),
    audience: resource,
    accessTokenFormat: "jwt",
    accessTokenTTL: 300,
    jwt: { sign: { alg: "ES256" } },
  };
}

function configuration() {
  return {
    jwks: { keys: [jwk] },
    scopes: ["openid"],
    clientDefaults: { id_token_signed_response_alg: "ES256" },
    clients: [
      {
        client_id: "desktop",
        application_type: "native",
        token_endpoint_auth_method: "none",
        grant_types: ["authorization_code"],
        response_types: ["code"],
        redirect_uris: [asked.redirect],
      },
      {
        client_id: "robot",
        client_secret: "robot-secret-of-the-tests",
        grant_types: ["client_credentials"],
        response_types: [],
        redirect_uris: [],
      },
      {
        client_id: "enterprise",
        client_secret: "enterprise-secret-of-the-tests",
        token_endpoint_auth_method: "client_secret_post",
        grant_types: [JWT_BEARER],
        response_types: [],
        redirect_uris: [],
      },
    ],
    pkce: { required: () => true },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        getResourceServerInfo: (_, resource) => resourceServer(resource),
        useGrantedResource: () => true,
      },
    },
    interactions: { url: (_, interaction) => `/agree/${interaction.uid}` },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    ttl: { AccessToken: 300, AuthorizationCode: 60, Grant: 300, Interaction: 60, Session: 300 },
  };
}

async function handle(request, response) {
  if (!request.url.startsWith("/agree/")) return provider.callback()(request, response);
  const { params, session } = await provider.interactionDetails(request, response);
  const accountId = session?.accountId ?? "ada";
  const grant = new provider.Grant({ accountId, clientId: params.client_id });
  for (const resource of [params.resource].flat()) grant.addResourceScope(resource, params.scope);
  const result = { login: { accountId }, consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}

// Enterprise-managed authorization: an assertion of the company's identity provider (ID-JAG) for an access token.
function identityAssertion(issuer) {
  const keys = createLocalJWKSet(asked.idp.jwks);
  const seen = new Set();
  return async (ctx) => {
    const { client, params } = ctx.oidc;
    let claims;
    try {
      const checked = { issuer: asked.idp.issuer, audience: issuer, typ: "oauth-id-jag+jwt" };
      ({ payload: claims } = await jwtVerify(params.assertion, keys, checked));
    } catch (error) {
      throw new errors.InvalidGrant(error.message);
    }
    if (claims.client_id !== client.clientId || claims.resource !== params.resource || seen.has(claims.jti))
      throw new errors.InvalidGrant("not for this client and resource, or used before");
    seen.add(claims.jti);
    const token = new provider.AccessToken({ accountId: claims.sub, client, gty: "jwt-bearer", scope: claims.scope });
    token.resourceServer = new provider.ResourceServer(params.resource, resourceServer(params.resource));
    ctx.body = { access_token: await token.save(), token_type: "Bearer", expires_in: 300, scope: claims.scope };
  };
}
