from tests.standins.feishu_fixtures import feishu, feishu_server

__all__ = ["feishu", "feishu_server"]
