// `make clients` runs this; a test generates into another folder.
export default {
  input: '../openapi.json',
  output: { path: process.env.GENERATED ?? 'src/generated', clean: true },
  plugins: [
    { name: '@hey-api/client-fetch', throwOnError: true },
    '@hey-api/typescript',
    { name: '@hey-api/sdk', operations: { strategy: 'single', containerName: 'Operations', nesting: 'operationId' } },
  ],
};
