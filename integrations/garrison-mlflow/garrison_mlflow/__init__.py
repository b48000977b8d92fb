"""MLflow asks Garrison before a version gets an alias or a stage, and loads through `garrison://` what it approved."""
