"""Notices by incoming webhooks: Slack, and the group robot of WeCom."""
