"""Who may use the service: users, access keys and what they may do. Stands on catalog and core alone."""
