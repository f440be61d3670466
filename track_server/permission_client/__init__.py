"""The connection to the permission service (auth mode `service`): see `client`."""
