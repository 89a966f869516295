"""Feishu (Lark): app bot, callbacks, webhook."""
