"""The service over HTTP: routes, models of requests and answers, media files, and the server."""
