"""Protocol-neutral HTTP: connections and their limits, TLS, proxies, ranges, conditionals."""
