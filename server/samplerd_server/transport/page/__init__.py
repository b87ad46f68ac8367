"""The page for browsers (``--http-ui``): charts of what the server does now, and a playground for its parameters.

::

    routes      the page's addresses, on the exporter's threads
    guard       which requests are answered: those that this page sends
    playground  a draw for the page: proto JSON in, a call of this server's own gRPC address, proto JSON out
    loopback    the channel to that address
    assets/     what the browser loads; it loads nothing from elsewhere
"""
