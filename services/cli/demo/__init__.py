"""The sample: invented reports of Tết 2023 and after, played on the running system and compared with expectations."""
