"use strict";

// validatorUrl: Swagger UI would send the document's address to swagger.io
SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null });
