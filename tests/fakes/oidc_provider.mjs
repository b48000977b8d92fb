// An issuer made with npm's oidc-provider: signed access tokens for client credentials, keys from argv.
// node oidc_provider.mjs PORT ISSUER '[jwk, ...]'   prints "ready" once it listens.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(process.cwd() + '/');
const { Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));
const [port, issuer, keys] = process.argv.slice(2);

const provider = new Provider(issuer, {
  jwks: { keys: JSON.parse(keys) },
  clients: [{ client_id: 'app', client_secret: 'app-secret-app-secret', grant_types: ['client_credentials'],
    redirect_uris: [], response_types: [], id_token_signed_response_alg: 'ES256' }],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'https://garrison.example',
      getResourceServerInfo: () => ({ audience: 'garrison', scope: '', accessTokenFormat: 'jwt',
        accessTokenTTL: 600, jwt: { sign: { alg: 'ES256' } } }),
    },
  },
  extraTokenClaims: () => ({ groups: ['ml-users'], nbf: Math.floor(Date.now() / 1000) }),
});
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
