"""Python processes that tests start."""

#: What a pytest of its own loads: to look for more takes as long as a short run. (.ci/run does, in the course.)
FEW_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "_hypothesis_pytestplugin"}
