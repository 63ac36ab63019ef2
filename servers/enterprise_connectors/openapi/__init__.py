"""REST APIs from their OpenAPI 3 descriptions."""

from enterprise_connectors.openapi.connector import OpenApiConfig, OpenApiConnector

__all__ = ["OpenApiConfig", "OpenApiConnector"]
