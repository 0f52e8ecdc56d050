"""Who may use the service: users, access keys, quotas, and what they may do. Stands on catalog and core alone."""
