// Authorize gets a token from /api/v1/users/token, so "Try it out" works for every service.
SwaggerUIBundle({
    url: '/openapi.json',
    dom_id: '#swagger-ui',
    deepLinking: true,
    docExpansion: 'list',
    filter: true,
});
