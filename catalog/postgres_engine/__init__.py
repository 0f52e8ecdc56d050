"""The networked engine: any number of gateways on one PostgreSQL, or on what speaks its protocol."""
