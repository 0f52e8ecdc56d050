"""What every room shares. Imports nothing of ours."""
